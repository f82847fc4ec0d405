import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.events import Event, Observer, WorkerHangs, WorkerNotStarted, WorkerRecovered
from proxy.keeper.heartbeat import DEAD_SECONDS
from proxy.keeper.sockets import Sockets
from proxy.keeper.workers import OnMessage, Workers
from proxy.link.codec import encode
from proxy.link.counts import Counts
from proxy.link.messages import Accept, Replayed, WorkerReport
from proxy.settings.addresses import TcpAddress
from proxy.telemetry.status import WorkerState
from tests.keeper.support import no_journals, worker_of
from tests.upstream.support import eventually
from tests.worker.values import snapshot

A = Replayed("a", 1, "pay", refused_again=False, source="")
B = Replayed("b", 2, "pay", refused_again=True, source="")


def _workers(
    directory: Path,
    sockets: Sockets,
    *,
    observe: Observer,
    on_message: OnMessage,
    admitted: bool = True,
    said: list[str] | None = None,
) -> Workers:
    workers = Workers(
        1,
        snapshot=snapshot(directory, 1),
        sockets=sockets,
        clock=SystemClock(),
        observe=observe,
        on_message=on_message,
        first_messages=list,
        journals=no_journals(),
        write_line=said.append if said is not None else lambda _: None,
    )
    if admitted:
        workers.admit()
    return workers


async def _receive(directory: Path, sent: bytes) -> tuple[list[Any], list[str], int | None]:
    """Return the messages of a worker that sends *sent* and closes its link, what is logged, and its exit code."""
    received: list[Any] = []
    said: list[str] = []
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    workers = _workers(
        directory, sockets, observe=lambda _: None, on_message=lambda _, one: received.append(one), said=said
    )
    process = await asyncio.create_subprocess_exec("sleep", "600")
    reader = asyncio.StreamReader(limit=10_000)
    reader.feed_data(sent)
    reader.feed_eof()
    try:
        await workers._receive(worker_of(process), reader)
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
    return received, said, code


async def test_a_workers_messages_are_heard_in_order(tmp_path: Path) -> None:
    """Each line is one; a worker that closes its link is left to end by itself."""
    received, _, code = await _receive(tmp_path, encode(A) + encode(B))

    assert received == [A, B]
    assert code is None


async def test_half_a_message_of_a_killed_worker_is_not_heard(tmp_path: Path) -> None:
    """The keeper must not fall over what a dying worker could not say to the end."""
    received, _, code = await _receive(tmp_path, encode(A) + encode(B)[:-2])

    assert received == [A]
    assert code is None


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\n", b'{"type":1}\n', b"7\n", b"\xff\n", b"x" * 50_000, b"[" * 5000 + b"\n"], ids=repr
)
async def test_a_worker_that_talks_nonsense_is_ended(tmp_path: Path, nonsense: bytes) -> None:
    """It takes neither the keeper nor the other workers with it."""
    received, _, code = await _receive(tmp_path, encode(A) + nonsense)

    assert received == [A]
    assert code == -9


@pytest.mark.parametrize(
    "line",
    [b"[]", b"[1]", b'["Unknown"]', b'["Acknowledged"]', b'["Acknowledged",1,true,{},0]', b'["Acknowledged",1,1,{}]'],
    ids=repr,
)
async def test_a_malformed_message_is_said_and_ignored(tmp_path: Path, line: bytes) -> None:
    """A keeper and a worker of two versions go on with what both know; nothing of the message is quoted."""
    received, said, code = await _receive(tmp_path, line + b"\n" + encode(A))

    assert received == [A]
    assert len(said) == 1
    assert "a malformed Acknowledged" in said[0] or "unknown kind" in said[0]
    assert code is None


async def test_a_malformed_report_is_a_heartbeat(tmp_path: Path) -> None:
    """The worker lives and serves: one of another version is not ended every quarter of a minute."""
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    workers = _workers(tmp_path, sockets, observe=lambda _: None, on_message=lambda _worker, _message: None)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    worker = worker_of(process)
    worker.heartbeat.seconds = DEAD_SECONDS
    reader = asyncio.StreamReader()
    reader.feed_data(b'["WorkerReport",["no counters"],0,0]\n')
    reader.feed_eof()

    await workers._receive(worker, reader)

    assert worker.heartbeat.seconds == 0
    sockets.close()


async def test_a_worker_that_can_not_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time later, and said so; what stood in the way ends nothing, and once it is gone the worker serves."""
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    events: list[Event] = []
    workers = _workers(tmp_path, sockets, observe=events.append, on_message=lambda _worker, _message: None)
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


@pytest.mark.parametrize("number", [-1, 10**400])
async def test_no_number_of_a_worker_spoils_the_metrics(number: int) -> None:
    """What can't be shown as it is, is shown as what can be: workers parse strangers' bytes."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    worker = worker_of(process)

    worker.on_report(
        WorkerReport(
            Counts(), in_flight=number, connections=number, late=number, late_seconds=number, late_route="\x1b[2J"
        )
    )

    assert 0 <= worker.in_flight <= 10**9
    assert worker.connections == worker.in_flight == worker.late == worker.late_seconds
    assert worker.late_route == ""
    worker.on_report(WorkerReport(Counts(), late=1, late_seconds=float("nan"), late_route="payments"))
    assert (worker.late_seconds, worker.late_route) == (0.0, "payments")


async def test_a_worker_that_is_ready_waits_to_be_admitted(tmp_path: Path) -> None:
    """Until what it replaces has handed over: it hears nothing of the state, and serves nobody."""
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    workers = _workers(
        tmp_path, sockets, observe=lambda _: None, on_message=lambda _worker, _message: None, admitted=False
    )
    running = asyncio.create_task(workers.run())
    await eventually(workers.all_ready)
    assert [one.state for one in workers.statuses()] == [WorkerState.STARTING]
    assert workers.broadcast(Accept()) == []

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
    workers = _workers(tmp_path, sockets, observe=events.append, on_message=lambda _worker, _message: None)
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
    workers = _workers(tmp_path, sockets, observe=events.append, on_message=lambda _worker, _message: None)
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
