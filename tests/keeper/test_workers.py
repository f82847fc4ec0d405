import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.keeper.sockets import Sockets
from proxy.keeper.workers import WorkerProcess, Workers
from proxy.settings.address import TcpAddress
from tests.worker.values import snapshot


async def _hear(directory: Path, said: bytes) -> tuple[list[dict[str, Any]], int | None]:
    """Return what the keeper hears of a worker that says *said* and closes its link, and its exit code if it ended."""
    heard: list[dict[str, Any]] = []
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)

    async def ended(_worker: str) -> None:
        pass

    workers = Workers(
        1,
        snapshot=snapshot(directory, 1),
        sockets=sockets,
        clock=SystemClock(),
        observe=lambda _event: None,
        hear=lambda _worker, message: heard.append(message),
        greetings=list,
        ended=ended,
    )
    process = await asyncio.create_subprocess_exec("sleep", "600")
    reader = asyncio.StreamReader(limit=1000)
    reader.feed_data(said)
    reader.feed_eof()
    try:
        await workers._listen(WorkerProcess(0, name="w", process=process, started=0.0), reader)
        async with asyncio.timeout(0.2):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        sockets.close()
        code = process.returncode
        if code is None:
            process.kill()
            await process.wait()
    return heard, code


async def test_a_workers_messages_are_heard_in_order(tmp_path: Path) -> None:
    """Each line is one; a worker that closes its link is left to end by itself."""
    heard, code = await _hear(tmp_path, b'{"type":"a"}\n{"type":"b"}\n')

    assert [message["type"] for message in heard] == ["a", "b"]
    assert code is None


async def test_half_a_message_of_a_killed_worker_is_not_heard(tmp_path: Path) -> None:
    """The keeper must not fall over what a dying worker could not say to the end."""
    heard, code = await _hear(tmp_path, b'{"type":"a"}\n{"type":"cou')

    assert [message["type"] for message in heard] == ["a"]
    assert code is None


@pytest.mark.parametrize("nonsense", [b"nonsense\n", b"[]\n", b'{"type":1}\n', b"\xff\n", b"x" * 5000], ids=repr)
async def test_a_worker_that_talks_nonsense_is_ended(tmp_path: Path, nonsense: bytes) -> None:
    """It takes neither the keeper nor the other workers with it."""
    heard, code = await _hear(tmp_path, b'{"type":"a"}\n' + nonsense)

    assert [message["type"] for message in heard] == ["a"]
    assert code == -9
