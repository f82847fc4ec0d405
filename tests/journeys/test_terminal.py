"""`serve` at a terminal: lines for people; JSON where stdout is none, or with --json."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.process import Instance
from tests.journeys.support import configured
from tests.journeys.waiting import until


@asynccontextmanager
async def at_a_terminal(directory: Path, *arguments: str) -> AsyncIterator[tuple[Instance, list[str]]]:
    """Run `payproxy serve` with a terminal as stdout, and yield it with the lines that appear there."""
    ours, theirs = os.openpty()
    stderr = directory / "stderr.1"
    lines: list[str] = []

    def read() -> None:
        rest = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other end any more
                return
            *whole, rest = (rest + piece).split(b"\r\n")
            lines.extend(line.decode() for line in whole)

    with stderr.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", *arguments,
            env={"PATH": os.environ["PATH"], "COLUMNS": "120"}, stdin=asyncio.subprocess.DEVNULL, stdout=theirs,
            stderr=errors,
        )  # fmt: skip
    os.close(theirs)
    instance = Instance(process, directory / "stdout.1", stderr)
    (directory / "stdout.1").touch()
    reading = asyncio.create_task(asyncio.to_thread(read))
    try:
        await instance.started(ready=True)
        yield instance, lines
    finally:
        await instance.end()
        await reading
        os.close(ours)


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_request_is_a_line_for_people(tmp_path: Path, bank: Bank, *, as_json: bool) -> None:
    """Unless JSON is asked for; the records themselves are the same in the file."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = true")
    arguments = ["--config", str(configuration), *(["--json"] if as_json else [])]
    async with at_a_terminal(tmp_path, *arguments) as (instance, lines):
        answer = await get(instance.address, "/payment/helloworld")
        wanted = answer.request_id if as_json else r"^\d\d:\d\d:\d\d 200 GET /payment/helloworld  \d+ ms$"
        await until(lambda: any(re.search(wanted, line) for line in lines), otherwise="no line came")

        assert any(line.startswith("{") for line in lines) is as_json
        await until(lambda: answer.request_id in (tmp_path / "requests.jsonl").read_text(), otherwise="no record")
