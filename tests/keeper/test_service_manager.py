import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.keeper.service_manager import ServiceManager
from proxy.telemetry.status import Status, TokenState, TokenStatus, WorkerState, WorkerStatus
from tests.support.clock import ManualClock

PID = 4711
WORKER = WorkerStatus(worker=0, pid=1, state=WorkerState.SERVING, started=0.0, full=False, in_flight=0, connections=0)
SERVES = Status(
    environment="mock",
    instance="i",
    version="1",
    config_digest="d",
    uptime=60.0,
    workers_wanted=1,
    workers=(WORKER,),
)


class Manager:
    """A service manager of the test: *socket* gets what it is told, *status* is what the instance would say."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(0)
        self.clock = ManualClock()
        self.lines: list[str] = []
        self.status = SERVES
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"}

    def told(self, **environ: str) -> ServiceManager:
        """Return what tells it."""
        return ServiceManager(
            self.environ | environ,
            pid=PID,
            status=lambda: self.status,
            addresses=lambda: ["127.0.0.1:8080"],
            clock=self.clock,
            write_line=self.lines.append,
        )

    def messages(self) -> list[list[str]]:
        """Return what it was told since the last call, each message as its lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens at a path or in the abstract namespace."""
    one = Manager(str(tmp_path / "notify") if request.param == "path" else f"@payproxy-test-{os.getpid()}")
    yield one
    one.socket.close()


def with_worker(state: WorkerState) -> Status:
    """Return the status of an instance whose only worker is in *state*."""
    return replace(SERVES, workers=(replace(WORKER, state=state),))


async def test_it_is_told_of_start_reload_and_stop(manager: Manager) -> None:
    """In the words of sd_notify(3), each with a line for `systemctl status`."""
    told = manager.told()
    told.ready()
    with told.reloading():
        during = manager.messages()
    told.stopping("Stopping", most=230.0)

    serves = "STATUS=Serves callers on 127.0.0.1:8080"
    now = f"MONOTONIC_USEC={int(manager.clock.monotonic() * 1_000_000)}"
    assert during == [["READY=1", serves], ["RELOADING=1", now, "STATUS=Reading the configuration again"]]
    stop = ["STOPPING=1", "EXTEND_TIMEOUT_USEC=230000000", "STATUS=Stopping"]
    assert manager.messages() == [["READY=1", serves], stop]


async def test_a_refused_reload_is_over_too_and_the_line_says_why(manager: Manager) -> None:
    """Without the second READY=1 the unit would stay in "reloading" for ever."""
    told = manager.told()
    told.ready()
    with told.reloading():
        manager.status = replace(SERVES, reload_problem="the last reload was refused: routes.0: no such upstream")

    assert manager.messages()[-1] == [
        "READY=1",
        "STATUS=Serves callers on 127.0.0.1:8080; reload: the last reload was refused: routes.0: no such upstream",
    ]


async def test_a_reload_before_it_is_ready_makes_it_not_ready(manager: Manager) -> None:
    """READY=1 belongs to the first worker that serves, and a stop is not taken back."""
    told = manager.told()
    with told.reloading():
        pass
    assert [each[0] for each in manager.messages()] == ["RELOADING=1"]
    told.ready()
    with told.reloading():
        manager.status = replace(SERVES, draining=True)
    assert [each[0] for each in manager.messages()] == ["READY=1", "RELOADING=1"]


async def test_the_line_is_told_when_it_changes_and_not_each_second(manager: Manager) -> None:
    """Reasons that count seconds are left out; what an endpoint sent adds no lines."""
    told = manager.told()
    token = TokenStatus(
        credential="login",
        audience="a",
        state=TokenState.NONE,
        tried=True,
        error_code="token_refused",
        error="no\nREADY=1",
    )
    told.ready()
    following = asyncio.create_task(told.follow())
    manager.messages()
    seen = []
    for state in (SERVES, replace(SERVES, tokens=(token,)), with_worker(WorkerState.UNRESPONSIVE), SERVES):
        manager.status = state
        for seconds in range(5):
            manager.status = replace(state, tokens=tuple(replace(one, retry_in=9.0 - seconds) for one in state.tokens))
            await manager.clock.advance(1.0)
        seen.append(manager.messages())
    following.cancel()

    assert seen == [
        [],
        [["STATUS=Serves callers on 127.0.0.1:8080; credential/login"]],
        [["STATUS=Not ready; workers: 0 of 1 workers serve; worker 0 does not respond, and is replaced if that lasts"]],
        [["STATUS=Serves callers on 127.0.0.1:8080"]],
    ]


@pytest.mark.parametrize("state", [WorkerState.SERVING, WorkerState.DRAINING])
async def test_the_watchdog_is_told_at_half_of_its_interval(manager: Manager, state: WorkerState) -> None:
    """WATCHDOG_USEC is 20 s here: each 10 s, while a worker sends heartbeats."""
    manager.status = with_worker(state)
    watching = asyncio.create_task(manager.told(WATCHDOG_PID=str(PID)).watch())
    for _ in range(39):
        await manager.clock.advance(1.0)
    watching.cancel()

    assert manager.messages() == [["WATCHDOG=1"]] * 3


@pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.UNRESPONSIVE])
async def test_no_worker_that_works_is_told_by_silence(manager: Manager, state: WorkerState) -> None:
    """As soon as one works again the watchdog hears of it, not half an interval later, when it may be too late."""
    manager.status = with_worker(state)
    watching = asyncio.create_task(manager.told().watch())
    for _ in range(18):
        await manager.clock.advance(1.0)
    silence = manager.messages()
    manager.status = SERVES
    await manager.clock.advance(1.0)
    watching.cancel()

    assert silence == []
    assert manager.messages() == [["WATCHDOG=1"]]


async def test_a_token_endpoint_that_fails_and_a_journal_that_fails_are_no_reason(manager: Manager) -> None:
    """A restart would mend neither, and it would cost the tokens that are still valid; a stop has its own limit."""
    for status in (replace(SERVES, journal_problem="disk full"), replace(SERVES, draining=True, workers=())):
        manager.status = status
        watching = asyncio.create_task(manager.told().watch())
        for _ in range(10):
            await manager.clock.advance(1.0)
        watching.cancel()
        assert manager.messages() == [["WATCHDOG=1"]]


@pytest.mark.parametrize(
    "environ", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"NOTIFY_SOCKET": ""}]
)
async def test_without_a_watchdog_for_us_nothing_is_sent(manager: Manager, environ: dict[str, str]) -> None:
    """A variable that was inherited is for another process."""
    await manager.told(**environ).watch()
    assert manager.messages() == []


async def test_who_does_not_listen_is_said_once(manager: Manager) -> None:
    """The instance serves all the same; the log has one line."""
    told = manager.told(NOTIFY_SOCKET="/nowhere/notify")
    told.ready()
    told.stopping("Stopping", most=1.0)
    assert manager.lines == ["the service manager can't be told READY=1: No such file or directory"]
