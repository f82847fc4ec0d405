"""`payproxy logs` as an operator runs it, in a process of its own."""

import json
from pathlib import Path
from typing import Any

from tests.journeys.process import Process


async def verified(directory: Path, *arguments: str) -> tuple[int, Any]:
    """Return exit code and data of `logs verify --json`; its output goes to *directory*."""
    process = await Process.run(directory, "-m", "proxy", "logs", "verify", *arguments, "--json")
    code = await process.exit_code()
    assert process.stdout.read_text(), process.stderr.read_text()
    return code, json.loads(process.stdout.read_text())


async def searched(directory: Path, *arguments: str) -> list[Any]:
    """Return the records that `logs search --json` prints; its output goes to *directory*."""
    process = await Process.run(directory, "-m", "proxy", "logs", "search", *arguments, "--json")
    assert await process.exit_code() == 0, process.output
    return [json.loads(line) for line in process.stdout.read_text().splitlines()]
