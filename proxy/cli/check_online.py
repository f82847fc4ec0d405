"""`payproxy check --online`: asks on the way to the bank."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import proxy.lean_aiohttp  # noqa: F401 - before everything else that imports aiohttp
from proxy.checks.online import Online, check_online
from proxy.cli.sigterm import ended_by_sigterm
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.settings.findings import Finding
from proxy.settings.load import load


def ask(paths: Sequence[Path | None], *, cwd: Path, call: bool, offline: Sequence[Finding]) -> list[Online]:
    """Return what was found for each configuration of *paths*; *offline* are the findings without network."""
    loaded = [load(path, environ=os.environ, cwd=cwd) for path in paths]

    async def ask_all() -> list[Online]:
        clock, entropy = SystemClock(), SystemEntropy()
        checks = (
            check_online(one, clock=clock, entropy=entropy, environ=os.environ, call_too=call, offline=offline)
            for one in loaded
        )
        return await asyncio.gather(*checks)

    with ended_by_sigterm():
        return asyncio.run(ask_all())
