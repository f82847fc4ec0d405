"""Exchanges as the data path leaves them, journals on real disks, and sinks that can be switched off."""

import asyncio
import contextlib
import inspect
import json
import math
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy, uuid7
from proxy.errors import LogUnavailable, Sent
from proxy.events import Event
from proxy.records.journal import Journal
from proxy.records.record import RecordContext
from proxy.records.rewritten import REWRITTEN
from proxy.records.shipper import Shipper
from proxy.records.sinks.sink import Sink, SinkUnavailable
from proxy.request_summary import Attempt, Chosen, RequestSummary

CONTEXT = RecordContext(environment="mock", instance="host-1", config_digest="0123456789abcdef")
NOW = 1_800_000_000.123456
SPOOL_BYTES = 64 * 1024 * 1024
CHOICE = {
    "route": "payments", "upstream": "payments", "upstream_url": "https://api.example:443", "credential": "login",
    "client_digest": "0123456789abcdef", "audience": "jpm:uri:prod:payments", "side": "modern",
    "why": "the route's only credential",
}  # fmt: skip


def a_choice(**changes: str) -> Chosen:
    """Return a rule and what it led to, with *changes*."""
    return Chosen(**(CHOICE | changes))


def an_attempt(number: int = 1, *, side: str = "modern", **changes: Any) -> Attempt:
    """Return one send to *side*, with *changes*."""
    attempt = Attempt(
        number,
        chosen=a_choice(side=side),
        started_wall=changes.pop("started_wall", NOW + 0.001),
        token_fingerprint=changes.pop("token_fingerprint", "0123456789abcdef"),
        connect_ms=changes.pop("connect_ms", 0.0),
    )
    values: dict[str, Any] = {"status": 200, "sent": Sent.YES, "wait_ms": 12.3456}
    for name, value in (values | changes).items():
        setattr(attempt, name, value)
    return attempt


def an_exchange(*, sent: Sent = Sent.YES, **changes: Any) -> RequestSummary:
    """Return one request after its end, with *changes*; members of its choice go there, *sent* to its only attempt."""
    choice = a_choice(**{name: changes.pop(name) for name in CHOICE if name in changes})
    account = RequestSummary(
        changes.pop("id", None) or uuid7(SystemEntropy(), NOW),
        started=100.0,
        started_wall=NOW,
        client_address="10.20.1.2",
        method="POST",
    )
    values: dict[str, Any] = {
        "finished": 100.0125, "waited": 0.012, "caller": "erp", "caller_proof": "network+key",
        "path": "/payment/v2/payments", "chosen": choice, "attempts": [an_attempt(sent=sent)],
        "status": 200, "origin": "bank", "request_bytes": 1024, "response_bytes": 541,
    }  # fmt: skip
    for name, value in (values | changes).items():
        setattr(account, name, value)
    return account


def make_journal(
    directory: Path,
    *,
    worker: str = "w1",
    durable: bool = True,
    spool_bytes: int = SPOOL_BYTES,
    exchange_timeout: float = math.inf,
) -> Journal:
    """Return a journal that is not open yet."""
    return Journal(
        directory,
        worker=worker,
        context=CONTEXT,
        durable=durable,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        spool_bytes=spool_bytes,
        exchange_timeout=exchange_timeout,
    )


@contextlib.asynccontextmanager
async def open_journal(directory: Path, **changes: Any) -> AsyncIterator[Journal]:
    """Yield an open journal and close it; *changes* go to `make_journal`."""
    journal = make_journal(directory, **changes)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def intend(journal: Journal, exchange: RequestSummary) -> None:
    """Return once the intent of *exchange* is taken, where it is durable: on disk."""
    waiter = journal.intend(exchange, exchange.attempts[0])
    if waiter is not None:
        await waiter


async def complete(journal: Journal, exchange: RequestSummary) -> None:
    """Let *exchange* be sent and end."""
    await intend(journal, exchange)
    journal.finish(exchange)


async def intends(journal: Journal, exchange: RequestSummary | None = None) -> bool:
    """Return whether an intent of *exchange* is taken."""
    try:
        await intend(journal, exchange or an_exchange())
    except LogUnavailable:
        return False
    return True


def journal_lines(directory: Path, worker: str = "w1") -> list[dict[str, Any]]:
    """Return the intents and records that are in the journal of *worker*, those written again both times."""
    lines = []
    for path in sorted(
        (directory / "journal").glob(f"{worker}-*.jsonl"), key=lambda path: int(path.stem.rpartition("-")[2])
    ):
        text = path.read_bytes().split(b"\0", 1)[0]
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        lines += [json.loads(line) for line in whole if not line.startswith(REWRITTEN)]
    return lines


async def until(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Return once *condition*, or what it awaits, holds; fails after *seconds*."""
    async with asyncio.timeout(seconds):
        while not (await held if inspect.isawaitable(held := condition()) else held):  # noqa: ASYNC110 - in threads, files
            await asyncio.sleep(0.005)


async def promised_until_killed(directory: Path, worker: str, *, intents: int) -> set[str]:
    """Let a process write intents, kill it with -9 after so many, and return the ids whose `intend` returned."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.records.intending", str(directory), worker),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    seen = [await child.stdout.readline() for _ in range(intents)]
    child.kill()
    seen += (await child.stdout.read()).splitlines(keepends=True)
    assert await child.wait() == -signal.SIGKILL
    return {line.decode().strip() for line in seen if line.endswith(b"\n")}


class MemorySink:
    """Keeps what it gets; `available` False makes it refuse."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.available = True
        self.closed = False
        self.records: list[dict[str, Any]] = []
        self.new_records = asyncio.Event()

    async def write(self, batch: list[bytes]) -> None:
        """Keep *batch*."""
        if not self.available:
            raise SinkUnavailable("switched off")
        self.records += [json.loads(line) for line in batch]
        self.new_records.set()

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    @property
    def ids(self) -> list[str]:
        """Return the ids in the order in which they came."""
        return [record["id"] for record in self.records]


@contextlib.asynccontextmanager
async def running_shipper(
    directory: Path, *sinks: Sink, events: list[Event] | None = None, seconds: float = 5.0
) -> AsyncIterator[Shipper]:
    """Yield a shipper that runs, and close it."""
    seen = [] if events is None else events
    shipper = Shipper(directory, sinks=sinks, clock=SystemClock(), observe=seen.append)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(shipper.run())
        await asyncio.sleep(0)
        try:
            yield shipper
        finally:
            await shipper.close(seconds=seconds)
