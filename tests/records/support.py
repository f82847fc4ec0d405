"""Exchanges as the data path leaves them, journals on real disks, and sinks that can be switched off."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy, uuid7
from proxy.errors import LogUnavailable, Sent
from proxy.events import Event
from proxy.records.journal import Journal
from proxy.records.record import RecordContext
from proxy.records.shipper import Shipper
from proxy.records.sinks.sink import Sink, SinkUnavailable

CONTEXT = RecordContext(environment="mock", instance="host-1", config_digest="0123456789abcdef")
NOW = 1_800_000_000.123456
SPOOL_BYTES = 64 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One send."""

    number: int = 1
    started_wall: float = NOW + 0.001
    status: int = 200
    token_fingerprint: str = "0123456789abcdef"
    sent: Sent = Sent.YES
    connect_ms: float = 0.0
    wait_ms: float = 12.3456
    side: str = "modern"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request after its end."""

    id: str = field(default_factory=lambda: uuid7(SystemEntropy(), NOW))
    began_wall: float = NOW
    began: float = 100.0
    finished: float = 100.0125
    caller: str = "erp"
    caller_proof: str = "network+key"
    client_address: str = "10.20.1.2"
    method: str = "POST"
    path: str = "/payment/v2/payments"
    query_keys: tuple[str, ...] = ()
    route: str = "payments"
    upstream: str = "payments"
    credential: str = "login"
    audience: str = "jpm:uri:prod:payments"
    side: str = "modern"
    why: str = "the route's only credential"
    attempts: list[Attempt] = field(default_factory=lambda: [Attempt()])
    status: int = 200
    origin: str = "bank"
    code: str = ""
    cause: str = ""
    sent_upstream: Sent = Sent.YES
    replayed: bool = False
    note: str = ""
    caller_left: bool = False
    request_bytes: int = 1024
    body_hmac: str = ""
    response_bytes: int = 541
    waited: float = 0.012
    index: tuple[tuple[str, str], ...] = ()
    retry: str = ""

    @property
    def parties(self) -> tuple[str, str, str, str, str, str, str, str, str, str]:
        """Return who asked whom."""
        return (
            self.caller, self.caller_proof, self.client_address, self.method,
            self.route, self.upstream, self.credential, self.audience, self.side, self.why,
        )  # fmt: skip


def make_journal(
    directory: Path, *, worker: str = "w1", durable: bool = True, spool_bytes: int = SPOOL_BYTES
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
    )


@contextlib.asynccontextmanager
async def open_journal(
    directory: Path, *, worker: str = "w1", durable: bool = True, spool_bytes: int = SPOOL_BYTES
) -> AsyncIterator[Journal]:
    """Yield an open journal and close it."""
    journal = make_journal(directory, worker=worker, durable=durable, spool_bytes=spool_bytes)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def complete(journal: Journal, exchange: Exchange) -> None:
    """Let *exchange* be sent and end."""
    await journal.intend(exchange, exchange.attempts[0])
    journal.finish(exchange)


async def intends(journal: Journal, exchange: Exchange | None = None) -> bool:
    """Return whether an intent of *exchange* is taken."""
    exchange = exchange or Exchange()
    try:
        await journal.intend(exchange, exchange.attempts[0])
    except LogUnavailable:
        return False
    return True


def journal_lines(directory: Path, worker: str = "w1") -> list[dict[str, Any]]:
    """Return what a reader finds in the journal of *worker*."""
    lines = []
    for path in sorted(
        (directory / "journal").glob(f"{worker}-*.jsonl"), key=lambda path: int(path.stem.rpartition("-")[2])
    ):
        text = path.read_bytes().split(b"\0", 1)[0]
        lines += [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    return lines


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return once *condition* holds; fails after *seconds*."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads and files
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
        self.news = asyncio.Event()

    async def write(self, batch: list[bytes]) -> None:
        """Keep *batch*."""
        if not self.available:
            raise SinkUnavailable("switched off")
        self.records += [json.loads(line) for line in batch]
        self.news.set()

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    @property
    def ids(self) -> list[str]:
        """Return the ids in the order in which they came."""
        return [record["id"] for record in self.records]


@contextlib.asynccontextmanager
async def running_shipper(
    directory: Path, *sinks: Sink, events: list[Event] | None = None, patience: float = 5.0
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
            await shipper.close(patience=patience)
