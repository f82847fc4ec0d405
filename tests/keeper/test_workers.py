import asyncio
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.events import Event, Observer, WorkerHangs, WorkerNotStarted, WorkerRecovered
from proxy.keeper.heartbeat import Heartbeat
from proxy.keeper.sockets import Sockets
from proxy.keeper.worker_process import WorkerProcess
from proxy.keeper.workers import Hear, Workers
from proxy.settings.addresses import TcpAddress
from proxy.telemetry.status import WorkerState
from tests.upstream.support import eventually
from tests.worker.values import snapshot


def _workers(directory: Path, sockets: Sockets, *, observe: Observer, hear: Hear, admitted: bool = True) -> Workers:
    async def ended(_worker: str) -> None:
        pass

    workers = Workers(
        1,
        snapshot=snapshot(directory, 1),
        sockets=sockets,
        clock=SystemClock(),
        observe=observe,
        hear=hear,
        greetings=list,
        ended=ended,
    )
    if admitted:
        workers.admit()
    return workers


async def _hear(directory: Path, said: bytes) -> tuple[list[dict[str, Any]], int | None]:
    """Return what the keeper hears of a worker that says *said* and closes its link, and its exit code if it ended."""
    heard: list[dict[str, Any]] = []
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    workers = _workers(directory, sockets, observe=lambda _event: None, hear=lambda _, said: heard.append(said))
    process = await asyncio.create_subprocess_exec("sleep", "600")
    reader = asyncio.StreamReader(limit=1000)
    reader.feed_data(said)
    reader.feed_eof()
    try:
        await workers._listen(
            WorkerProcess(0, name="w", process=process, started=0.0, heartbeat=Heartbeat(SystemClock())), reader
        )
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


async def test_a_worker_that_can_not_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time later, and said so; what stood in the way ends nothing, and once it is gone the worker serves."""
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    events: list[Event] = []
    workers = _workers(tmp_path, sockets, observe=events.append, hear=lambda _worker, _message: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "python"))  # as while an upgrade replaces it
        running = asyncio.create_task(workers.run())
        await eventually(lambda: len(events) >= 3)

    await _state(workers, WorkerState.SERVING)
    tries = [event for event in events if isinstance(event, WorkerNotStarted)]
    assert {event.cause for event in tries} == {"No such file or directory"}
    assert [event.retry_in for event in tries[:3]] == [0.2, 0.4, 0.8]
    workers.drain(grace=0)
    await running
    sockets.close()


@pytest.mark.parametrize("number", [-1, 10**400, True])
async def test_no_number_of_a_worker_spoils_the_metrics(number: int) -> None:
    """What can't be shown as it is, is shown as what can be: workers parse strangers' bytes."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    worker = WorkerProcess(0, name="w", process=process, started=0.0, heartbeat=Heartbeat(SystemClock()))

    worker.take({"journal_problem": "", "full": False, "in_flight": number, "connections": number})

    assert 0 <= worker.in_flight <= 10**9
    assert worker.connections == worker.in_flight
    with pytest.raises(TypeError):
        worker.take({"journal_problem": "", "full": False, "in_flight": math.inf, "connections": 0})


async def test_a_worker_that_is_ready_waits_to_be_admitted(tmp_path: Path) -> None:
    """Until what it replaces has handed over: it hears nothing of the state, and serves nobody."""
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    workers = _workers(tmp_path, sockets, observe=lambda _: None, hear=lambda _worker, _message: None, admitted=False)
    running = asyncio.create_task(workers.run())
    await eventually(workers.all_ready, within=30.0)
    assert [one.state for one in workers.statuses()] == [WorkerState.STARTING]
    assert workers.broadcast({"type": "migrations"}) == []

    workers.admit()

    await _state(workers, WorkerState.SERVING)
    workers.drain(grace=0)
    await running
    sockets.close()


async def test_a_worker_that_goes_on_is_ready_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that only paused is not killed, and nobody has to guess whether it came back."""
    monkeypatch.setattr("proxy.keeper.workers.UNREADY_SECONDS", 2.0)
    monkeypatch.setattr("proxy.keeper.workers.DEAD_SECONDS", 600.0)
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    events: list[Event] = []
    workers = _workers(tmp_path, sockets, observe=events.append, hear=lambda _worker, _message: None)
    running = asyncio.create_task(workers.run())
    await _state(workers, WorkerState.SERVING)
    [one] = workers.statuses()

    os.kill(one.pid, signal.SIGSTOP)
    await _state(workers, WorkerState.UNRESPONSIVE)
    os.kill(one.pid, signal.SIGCONT)
    await _state(workers, WorkerState.SERVING)

    assert workers.statuses()[0].pid == one.pid
    assert WorkerRecovered(worker=0, pid=one.pid) in events
    workers.drain(grace=0)
    await running
    sockets.close()


async def test_a_worker_that_does_not_come_to_serve_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that hangs at its start is killed, said so, and another is started."""
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o700)
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    events: list[Event] = []
    workers = _workers(tmp_path, sockets, observe=events.append, hear=lambda _worker, _message: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(hangs))
        running = asyncio.create_task(workers.run())
        await eventually(lambda: len(workers.statuses()) == 1)
        [first] = workers.statuses()
    workers._alive[0].heartbeat.seconds = 60.0  # so long ago it was started

    await _state(workers, WorkerState.SERVING)

    [killed] = [event for event in events if isinstance(event, WorkerHangs)]
    assert (killed.pid, killed.killed) == (first.pid, True)
    workers.drain(grace=0)
    await running
    sockets.close()


async def _state(workers: Workers, state: WorkerState) -> None:
    await eventually(lambda: [one.state for one in workers.statuses()] == [state])
