"""`payproxy serve` under a service manager: what it says (sd_notify(3)), and the sockets it gets (sd_listen_fds(3))."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.process import Instance
from tests.journeys.service_manager import Notified, activated, environment, listening
from tests.journeys.support import configured
from tests.journeys.waiting import until

Activate = Callable[..., Awaitable[Instance]]


@pytest.fixture
async def activate(tmp_path: Path) -> AsyncIterator[Activate]:
    """Return `activated`, which ends what it started."""
    instances: list[Instance] = []

    async def started(configuration: Path, *sockets: socket.socket, **how: dict[str, str]) -> Instance:
        instance = await activated(tmp_path, configuration, sockets, **how)
        instances.append(instance)
        return instance

    yield started
    for instance in instances:
        await instance.end()


def _at(configuration: Path, traffic: str, admin: str = "127.0.0.1:0") -> Path:
    text = configuration.read_text().replace('listen = "127.0.0.1:0"', f'listen = "{traffic}"', 1)
    configuration.write_text(text.replace('listen = "127.0.0.1:0"', f'listen = "{admin}"', 1))
    return configuration


def _place(one: socket.socket) -> str:
    return ":".join(map(str, one.getsockname()))


async def test_it_says_when_it_is_ready_reloads_and_stops(tmp_path: Path, bank: Bank, start: Start) -> None:
    """READY with the first worker, RELOADING until READY also for a refused configuration, STOPPING with its limit."""
    file = configured(tmp_path, bank.url, server="exchange_timeout = 20")
    good = file.read_text()
    with Notified(tmp_path) as manager:
        instance = await start(file, env={"NOTIFY_SOCKET": manager.address})
        first = await manager.told("READY")
        assert first["STATUS"].endswith(f"erves callers on {instance.address[0]}:{instance.address[1]}")

        file.write_text(good.replace('upstream = "simulator"', 'upstream = "simulatr"'))
        seen = len(manager.messages)
        instance.process.send_signal(signal.SIGHUP)
        await manager.told("RELOADING", after=seen)
        refused = await manager.told("READY", after=seen)
        assert "; reload: the last reload was refused: " in refused["STATUS"]

        file.write_text(good)
        seen = len(manager.messages)
        instance.process.send_signal(signal.SIGHUP)
        reloading = await manager.told("RELOADING", after=seen)
        taken = await manager.told("READY", after=seen)
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert "reload" not in taken["STATUS"]

        seen = len(manager.messages)
        assert await instance.stop() == 0
        stopping = await manager.told("STOPPING", after=seen)
        assert stopping["EXTEND_TIMEOUT_USEC"] == "45000000"  # 20 s and 25 s to kill workers and close files
        assert all("READY" not in one for one in manager.messages[seen:])


async def test_workers_do_not_get_the_socket(tmp_path: Path, bank: Bank, start: Start) -> None:
    """They parse strangers' bytes, and systemd (NotifyAccess=main) would ignore them anyway."""
    if os.geteuid() != 0:
        pytest.skip("the environment of a worker is seen by root alone")
    with Notified(tmp_path) as manager:
        instance = await start(
            configured(tmp_path, bank.url), env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000"}
        )
        [worker] = await instance.serving()

        assert b"NOTIFY_SOCKET=" in environment(instance.pid)
        assert b"NOTIFY_SOCKET=" not in environment(worker)
        assert b"WATCHDOG_USEC=" not in environment(worker)


async def test_the_watchdog_hears_of_a_keeper_and_a_worker_that_work(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A token endpoint that fails is no reason for silence; a worker that hangs, without another, is."""
    bank.world.faults.set("status", path="/am/oauth2/alpha/access_token", status=503)
    with Notified(tmp_path) as manager:
        instance = await start(
            configured(tmp_path, bank.url),
            env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"},
            ready=False,
        )
        [worker] = await until(instance.serving, otherwise="no worker serves")
        await manager.told("WATCHDOG", after=len(manager.messages))

        os.kill(worker, signal.SIGSTOP)
        try:
            told = await until(
                lambda: next((one for one in manager.messages if "does not respond" in one.get("STATUS", "")), None),
                otherwise="nobody noticed that the worker hangs",
            )
            seen = len(manager.messages)
            assert told["STATUS"].startswith("Not ready; workers: 0 of 1 workers serve")
        finally:
            os.kill(worker, signal.SIGCONT)
        first = (await manager.told("STATUS", after=seen), manager.messages[seen:])
        assert "WATCHDOG" not in first[0], "it was told between the worker's silence and its return"
        await manager.told("WATCHDOG", after=len(manager.messages))


async def test_no_request_fails_when_the_watchdog_aborts_all_processes(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Systemd sends SIGABRT to every process of the unit: the workers end what they have, the keeper is gone."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    bank.world.faults.set("slow", path="/payment/v2/payments", seconds=2.0)
    slow = asyncio.create_task(ask(instance.address, payment("slow")))
    await until(lambda: bank.world.accepted["slow"], otherwise="the bank did not get the payment")
    await instance.serving()

    for pid in (instance.pid, *instance.known):
        os.kill(pid, signal.SIGABRT)

    assert (await slow).status == 201
    assert await instance.exit_code() == -signal.SIGABRT
    await instance.workers_gone()


@pytest.mark.parametrize("alive", [True, False], ids=["kept-alive", "new-connections"])
async def test_no_connection_is_refused_in_a_restart(
    tmp_path: Path, bank: Bank, activate: Activate, *, alive: bool
) -> None:
    """The sockets stay with systemd: who comes between two instances waits in their queue, and is served."""
    with listening() as traffic, listening() as admin:
        file = configured(tmp_path, bank.url, server="workers = 2")
        _at(file, _place(traffic), _place(admin))
        early = asyncio.create_task(get(traffic.getsockname(), "/payment/helloworld"))
        first = await activate(file, traffic, admin)
        await first.started(ready=True)
        assert (await early).status == 200
        assert (first.address, first.admin) == (traffic.getsockname(), admin.getsockname())

        async with Load(first.address, _mixed, connections=16, alive=alive) as load:
            await load.goes_on(300)
            assert await first.stop() == 0
            second = await activate(file, traffic, admin)
            await second.started(ready=True)
            await load.goes_on(300)

        assert load.failures == []
        assert set(load.statuses) == {200, 201}, load.problems
        assert await second.stop() == 0
    assert bank.world.accepted.total() == load.statuses[201]
    assert len(records(tmp_path)) == len(load.answers) + 1


def _mixed(number: int) -> Request:
    return payment(f"order-{number}") if number % 2 else Request()


async def test_a_reload_keeps_the_sockets(tmp_path: Path, bank: Bank, activate: Activate) -> None:
    """The new workers accept from them too, and a worker that is killed is replaced by one that does."""
    with listening() as traffic:
        instance = await activate(_at(configured(tmp_path, bank.url), _place(traffic)), traffic)
        await instance.started(ready=True)
        [before] = await instance.serving()
        async with Load(instance.address, _mixed, connections=8) as load:
            await load.goes_on(100)
            instance.process.send_signal(signal.SIGHUP)
            await until(lambda: "is in force" in instance.output, otherwise="the configuration was not taken")
            await load.goes_on(100)
        assert load.failures == []
        [after] = await until(instance.serving, otherwise="no worker serves")
        assert after != before
        os.kill(after, signal.SIGKILL)
        assert (await get(instance.address, "/payment/helloworld")).status == 200


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("traffic", "(FileDescriptorName=traffic), and the configuration has server.listen ="),
        ("payproxy.socket", "and the configuration has no listener there"),
    ],
)
async def test_a_socket_at_another_address_is_an_error(
    tmp_path: Path, bank: Bank, activate: Activate, names: str, words: str
) -> None:
    """Exit code 78, which the unit does not restart; the message names both addresses and what to do."""
    with listening() as traffic:
        file = _at(configured(tmp_path, bank.url), "127.0.0.1:1", "127.0.0.1:2")
        instance = await activate(file, traffic, env={"LISTEN_FDNAMES": names})

        assert await instance.exit_code() == 78
        assert f"passed a socket at {_place(traffic)}" in instance.output
        assert words in instance.output
        assert "make ListenStream= of the socket unit and the configuration alike" in instance.output


async def test_systemds_own_tool_passes_its_sockets(tmp_path: Path, bank: Bank) -> None:
    """The first connection to systemd-socket-activate starts payproxy, and is answered by it."""
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("there is no systemd-socket-activate here")
    with listening() as traffic, listening() as admin:
        places = _place(traffic), _place(admin)
    file = _at(configured(tmp_path, bank.url), *places)
    listens = [f"--listen={place}" for place in places]
    become = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    instance = await Instance.run(
        tmp_path,
        "-c",
        become,
        tool,
        *listens,
        "--fdname=traffic:admin",
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--config",
        str(file),
    )
    try:
        host, port = places[0].split(":")
        await until(lambda: f"Listening on {places[1]}" in instance.output, otherwise="the tool does not listen")
        assert (await get((host, int(port)), "/payment/helloworld")).status == 200
        await instance.started(ready=True)
        assert await instance.stop() == 0
    finally:
        await instance.end()
