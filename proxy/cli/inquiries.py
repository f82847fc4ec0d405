"""Ask the bank by way of the running instance whether it has a request, and find what was asked before."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.cli.instance import ask
from proxy.cli.log_database import configured_database, opened
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiries import about, inquiries
from proxy.records.inquiry_outcome import Record
from proxy.records.query import Archive, Query
from proxy.settings.model import Settings

# A copy of the name in proxy/keeper/inquiries.py: commands do not import the keeper.
PATH = "/api/inquiries"
# The instance asks one at a time, and waits at most 15 s for each of connecting, sending and the answer.
_SECONDS = 120.0

_MEMBERS = ("id", "route", "environment", "upstream", "upstream_url", "credential", "client_digest", "side")


def ask_bank(settings: Settings, record: Mapping[str, Any]) -> Record:
    """Have the running instance ask the bank about the exchange *record*; return the record of the inquiry.

    Raises NotRunning, or Denied with the reason why it was not asked.
    """
    values = {name: record.get(name, "") for name in _MEMBERS} | {"index": record.get("index") or {}}
    answer: Record = ask(Path(settings.data_directory), PATH, values, timeout=_SECONDS)["record"]
    return answer


async def inquiries_about(
    settings: Settings, database_file: Path | None, records: Sequence[Mapping[str, Any]]
) -> dict[str, list[Record]]:
    """Return the inquiries about the exchanges *records* by the exchange's id, the oldest first."""
    unknown = [str(one["id"]) for one in records if one.get("sent_upstream") == "unknown"]
    if not unknown:
        return {}
    spool, found = Spool(Path(settings.data_directory)), dict[str, list[Record]]()
    database = configured_database(settings, database_file)
    async with contextlib.AsyncExitStack() as stack:
        archive = await stack.enter_async_context(opened(database)) if database is not None else None
        for record_id in unknown:
            found |= await inquiries(archive, spool, about(record_id))
    return found


async def inquiries_since(settings: Settings, archive: Archive, since: float | None) -> dict[str, list[Record]]:
    """Return all inquiries since epoch seconds *since* by their exchange's id, the oldest first."""
    return await inquiries(archive, Spool(Path(settings.data_directory)), Query(kind="inquiry", since=since))
