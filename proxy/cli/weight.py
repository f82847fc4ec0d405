"""The weight of a migration for commands: from the running instance, or else from its data directory."""

from pathlib import Path
from typing import Any

from proxy.cli.instance import Denied, NotRunning, ask
from proxy.migration.state import StateUnusable
from proxy.migration.stores.file import FileStore

_STATUS = "/api/status"


def weight_of(data_directory: Path, migration: str) -> tuple[int, str]:
    """Return the weight of *migration*, and its source in words; 0 if unknown."""
    try:
        known: list[dict[str, Any]] = ask(data_directory, _STATUS)["migrations"]
    except (NotRunning, Denied, KeyError):
        return _left_behind(data_directory, migration)
    for one in known:
        if one["name"] == migration:
            return int(one["weight"]), "in the running instance"
    return 0, "the running instance does not know the migration yet"


def _left_behind(data_directory: Path, migration: str) -> tuple[int, str]:
    try:
        state = FileStore(data_directory).load().states.get(migration)
    except StateUnusable as error:
        return 0, f"no instance runs, and {error}"
    return (state.weight, "as the last instance left it") if state is not None else (0, "it was never changed")
