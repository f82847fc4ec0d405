"""Weights changed as the commands change them, over admin.sock, without a process for each."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proxy.cli.instance import ask
from proxy.cli.migration_status import ROLLBACK, SET


async def set_weight(directory: Path, weight: int, *, release: Iterable[str] = ()) -> dict[str, Any]:
    """Set the weight of "payments" in the instance whose configuration is in *directory*; Denied, NotRunning."""
    values = {"name": "payments", "weight": weight, "reason": "a test", "force": True, "release": list(release)}
    return await asyncio.to_thread(ask, directory / "data", SET, values)


async def roll_back(directory: Path, weight: int = 0) -> dict[str, Any]:
    """Roll "payments" back to *weight*; Denied, NotRunning."""
    values = {"name": "payments", "to": weight, "reason": "a test"}
    return await asyncio.to_thread(ask, directory / "data", ROLLBACK, values)
