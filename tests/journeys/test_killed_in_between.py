"""A worker killed at one system call: before the sync of an intent, after it, after the send, before the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import connected, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, records
from tests.journeys.logs import searched, verified
from tests.journeys.process import Instance
from tests.journeys.strace import injected, port, socket_between
from tests.journeys.support import configured
from tests.journeys.waiting import until

READS = "read,recvfrom"
WRITES = "write,writev,sendto,sendmsg"

_THOROUGH = pytest.mark.thorough


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where to kill: at the entry of the *nth* of such *calls* on what *about* names, with what the bank then has.

    *received* of a payment, *executed* by it; *attempts*: how each send reads in the log.
    """

    calls: str
    about: Callable[[Instance, Bank, Path], str]
    nth: int = 1
    received: int = 0
    executed: int = 0
    attempts: tuple[str, ...] = ("unknown",)


def _journal(instance: Instance, bank: Bank, directory: Path) -> str:
    del instance, bank
    [path] = (directory / "data" / "journal").glob("w*.jsonl")
    return str(path)


def _to_bank(instance: Instance, bank: Bank, directory: Path) -> str:
    del instance, directory
    return socket_between(remote=port(bank.url))


def _to_caller(instance: Instance, bank: Bank, directory: Path) -> str:
    del bank, directory
    return socket_between(local=instance.address[1])


POINTS = {
    "before the sync": Point(calls="fdatasync", about=_journal),
    "between sync and send": Point(calls=WRITES, about=_to_bank),
    "between send and answer": Point(calls=READS, about=_to_bank, received=1, executed=1),
    "between the bank's answer and ours": Point(calls=WRITES, about=_to_caller, received=1, executed=1),
}
AGAIN = {
    "before the second sync": Point(calls="fdatasync", about=_journal, nth=2, received=1, attempts=("yes", "unknown")),
    "between second sync and send": Point(calls=WRITES, about=_to_bank, nth=2, received=1, attempts=("yes", "unknown")),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in {"between sync and send", "between send and answer"} else _THOROUGH)
        for name in (*POINTS, *AGAIN)
    ],
)
async def test_a_worker_is_killed_at(tmp_path: Path, bank: Bank, start: Start, name: str) -> None:
    """What was sent or may have been is found as unknown, it alone; nothing is sent again, and service goes on."""
    point = (POINTS | AGAIN)[name]
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    [victim] = await instance.serving()

    async with connected(instance.address) as connection:
        assert (await connection.ask(payment("before"))).status == 201
        await until(lambda: _of(tmp_path, "before"), otherwise="there was no record")
        if name in AGAIN:
            bank.world.tokens.revoke()
        fault = f"signal=SIGKILL:when={point.nth}"
        about = point.about(instance, bank, tmp_path)
        async with injected(victim, point.calls, fault, output=tmp_path / "strace", only=[about]):
            with pytest.raises((OSError, EOFError)):
                await connection.ask(payment("cut"))

    cut = await until(lambda: _of(tmp_path, "cut"), otherwise="there was no record")
    assert (cut["sent_upstream"], cut["note"], cut["status"]) == ("unknown", "worker_ended", 0)
    assert tuple(attempt["sent"] for attempt in cut["attempts"]) == point.attempts
    received = [each for each in bank.world.seen("/payment", "POST") if each.header("Idempotency-Key") == "cut"]
    assert (len(received), bank.world.accepted["cut"]) == (point.received, point.executed)
    await until(lambda: _replaced(instance, victim), otherwise="the worker was not replaced")
    async with connected(instance.address) as connection:
        assert (await connection.ask(payment("after"))).status == 201
    assert await instance.stop() == 0

    listed = await searched(tmp_path, "--sent", "unknown", "--config", str(configuration))
    assert [each["id"] for each in listed] == [cut["id"]]
    code, value = await verified(tmp_path, "--config", str(configuration))
    assert code == 0, value


def _of(directory: Path, key: str) -> Record:
    return next((each for each in records(directory) if each["index"]["Idempotency-Key"] == key), {})


async def _replaced(instance: Instance, victim: int) -> bool:
    serving = await instance.serving()
    return bool(serving) and victim not in serving
