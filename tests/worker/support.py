"""A worker's gateway in this process: listener, data path, journal and pools are real, the keeper is scripted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.forward import forward
from proxy.forwarding.gateway import Gateway
from proxy.link.messages import (
    ClaimRequest,
    PinRequest,
    RefusalAnswer,
    SignatureAnswer,
    SignatureRequest,
    ToKeeper,
    TokenFailure,
    TokenRefusal,
    TokenUpdate,
    TokenValue,
)
from proxy.link.request_counter import counter_alone
from proxy.records.journal import Journal
from proxy.records.record import RecordContext
from proxy.secret import Secret
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.counters import Counters
from proxy.worker.exchange_log import ExchangeLog
from proxy.worker.gateway_factory import make_gateway
from proxy.worker.listener import CallerServer
from proxy.worker.migration_reporter import MigrationReporter
from proxy.worker.signature_requests import SignatureRequests
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts
from tests.upstream.support import OK, Bank, Request, Step, bank, eventually, says
from tests.worker.values import snapshot

CLOCK = SystemClock()


class Ledger:
    """Around the worker's own, whose class takes no subclasses when compiled: keeps what has ended for tests to see."""

    def __init__(self, its: ExchangeLog) -> None:
        self._its = its
        self.ended: list[Exchange] = []

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange for what *side* asks."""
        return self._its.begin(side)

    def finish(self, exchange: Exchange) -> None:
        """Keep *exchange* too."""
        self._its.finish(exchange)
        self.ended.append(exchange)


@dataclass(kw_only=True)
class Keeper:
    """The other end of the link: it hands out tokens, and answers each refusal as told."""

    answer: str = "replaced"  # replaced: with a new token; failed, kept: without; "": never answers
    keeps: bool | None = True  # whether it keeps retry pins; None: it never answers
    # What it answers to a worker that wants a body signed; None: it never answers.
    signs: Callable[[SignatureRequest], SignatureAnswer] | None = None
    received: list[Any] = field(default_factory=list)  # ToKeeper; Any, so that tests can name the fields of one kind
    gateway: Gateway | None = None
    mints: dict[str, int] = field(default_factory=dict)

    def on_message(self, message: ToKeeper) -> None:
        """Take what the worker sends up."""
        self.received.append(message)
        if isinstance(message, TokenRefusal) and self.answer and self.gateway is not None:
            if self.answer == "replaced":
                self.mint(message.key)
            self.gateway.tokens.on_answer(RefusalAnswer(message.ask, self.answer))
        if isinstance(message, PinRequest | ClaimRequest) and self.keeps is not None:
            self.pin(message, kept=self.keeps)
        if isinstance(message, SignatureRequest) and self.signs is not None and self.gateway is not None:
            assert isinstance(self.gateway.signer, SignatureRequests)
            self.gateway.signer.on_answer(self.signs(message))

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the messages of *kind*, in order."""
        return [one for one in self.received if isinstance(one, kind)]

    def pin(self, asked: PinRequest | ClaimRequest, *, kept: bool) -> None:
        """Answer a worker that *asked* for a retry pin, as keeper/retry_pins.py does."""
        assert self.gateway is not None
        assert isinstance(self.gateway.reporter, MigrationReporter)
        if kept:
            self.gateway.migrations.add_pins({asked.digest: asked.pin}, CLOCK.now())
        self.gateway.reporter.on_answer(asked.ask, kept=kept)

    def mint(self, digest: str, *, seconds: float = 300.0, origins: tuple[str, ...] | None = None) -> None:
        """Give the board a new token for *digest*, as keeper/token_manager.py does."""
        assert self.gateway is not None
        serial = self.mints[digest] = self.mints.get(digest, 0) + 1
        key, theirs = next(one for one in self.gateway.table.origins().items() if one[0].digest == digest)
        now = CLOCK.monotonic()
        token = TokenValue(
            serial,
            Secret(token_of(key.audience, serial)),
            tuple(origins if origins is not None else theirs),
            now,
            now + seconds * 0.75,
            now + seconds,
        )
        self.gateway.tokens.on_update(TokenUpdate(digest, token, None))

    def failure(self, digest: str, code: str) -> None:
        """Say that there is no token, and why."""
        assert self.gateway is not None
        failure = TokenFailure(code, "no token", "scripted", CLOCK.monotonic() + 5)
        self.gateway.tokens.on_update(TokenUpdate(digest, None, failure))


def token_of(audience: str, serial: int = 1) -> str:
    """Return the value of the *serial*th token for *audience*."""
    return f"canary-{audience}-{serial}.abc"


@dataclass(kw_only=True)
class Proxy:
    """What runs: where, towards which bank, with what inside."""

    port: int
    bank: Bank
    server: CallerServer
    gateway: Gateway
    ledger: Ledger
    keeper: Keeper
    directory: Path

    @property
    def untouched(self) -> bool:
        """Return whether the bank has seen nothing at all of any request."""
        return self.bank.heads == 0 and not self.bank.requests

    @property
    def last(self) -> Request:
        """Return the request that the bank got last."""
        return self.bank.requests[-1]

    def key(self, route: str) -> str:
        """Return the digest of the token key of *route*."""
        return next(one.own.token_key.digest for one in self.gateway.table.routes if one.name == route)

    async def ended(self, count: int = 1) -> Exchange:
        """Return the last exchange once *count* have ended."""
        await eventually(lambda: len(self.ledger.ended) >= count)
        return self.ledger.ended[-1]

    def journal(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's lines of *kind*: intent or exchange."""
        lines = [
            json.loads(line)
            for path in sorted((self.directory / "journal").glob("*.jsonl"))
            for line in path.read_bytes().rstrip(b"\0").splitlines()  # it is preallocated
        ]
        return [line for line in lines if line.get("kind") == kind]


@contextlib.asynccontextmanager
async def proxy(
    directory: Path,
    *script: Step,
    early: bool = False,
    tokens: bool = True,
    timeouts: CallerTimeouts = CALLER_TIMEOUTS,
    **changes: Any,
) -> AsyncIterator[Proxy]:
    """Run a worker's gateway towards a bank with *script*; *changes* go to `values.snapshot`."""
    async with bank(*(script or (says(OK),)), early=early) as it:
        values = snapshot(directory, changes.pop("port", it.port), **changes)
        async with _running(values, it, directory, timeouts) as running:
            if tokens:
                for digest in [key.digest for key in running.gateway.table.origins()]:
                    running.keeper.mint(digest)
            yield running


@contextlib.asynccontextmanager
async def _running(values: Snapshot, its_bank: Bank, directory: Path, timeouts: CallerTimeouts) -> AsyncIterator[Proxy]:
    journal = Journal(
        directory,
        worker="w1",
        context=RecordContext(environment="mock", instance="test", config_digest=values.digest),
        durable=True,
        clock=CLOCK,
        entropy=SystemEntropy(),
        spool_bytes=values.request_log.spool_bytes,
    )
    counters = Counters(server_addresses={"bank": "127.0.0.1"})
    its = ExchangeLog(
        values.request_log,
        journal=journal,
        counters=counters,
        counter=counter_alone(),
        clock=CLOCK,
        entropy=SystemEntropy(),
    )
    ledger = Ledger(its)
    keeper = Keeper()
    gateway = replace(make_gateway(values, exchanges=its, send=keeper.on_message, clock=CLOCK), exchanges=ledger)
    keeper.gateway = gateway
    server = CallerServer(
        lambda side: forward(side, gateway),
        max_header_bytes=values.server.max_header_bytes,
        max_body_bytes=values.server.max_body_bytes,
        timeouts=timeouts,
    )
    await journal.open()
    acceptor = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = acceptor.sockets[0].getsockname()[1]
    try:
        yield Proxy(
            port=port,
            bank=its_bank,
            server=server,
            gateway=gateway,
            ledger=ledger,
            keeper=keeper,
            directory=directory,
        )
    finally:
        acceptor.close()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await eventually(lambda: not server.connections)
        for pool in gateway.pools.values():
            await pool.close()
        await journal.close()
