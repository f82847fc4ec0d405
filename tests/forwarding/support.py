"""What tests of the data path say often: answers of the bank, records as they are on disk, and real slots."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.keeper.token_manager import token_update
from proxy.link.messages import RefusalAnswer, Replayed, TokenAccepted, TokenAsked, TokenRefusal
from proxy.secret import Secret
from proxy.tokens.response import Minted
from proxy.tokens.slot import Slot
from proxy.tokens.token import fingerprint
from tests.records.support import journal_lines
from tests.upstream.support import OK, Bank, Peer, Step, eventually
from tests.worker.support import Proxy, token_of
from tests.worker.wire import Reply, Wire, ask, request

Record = dict[str, Any]


def answer(status: int, *lines: bytes, body: bytes = b"") -> bytes:
    """Return an answer of the bank with *lines* as headers."""
    head = [b"HTTP/1.1 %d Its Reason" % status, *lines, b"Content-Length: %d" % len(body), b"", b""]
    return b"\r\n".join(head) + body


REFUSED = answer(401, b'WWW-Authenticate: Bearer error="invalid_token"', body=b"refused")


def post(target: bytes = b"/open/pay", *lines: bytes, body: bytes = b'{"amount": 1}') -> bytes:
    """Return a payment."""
    return request(b"POST", target, *lines, body=body)


def bearer(head: bytes) -> str:
    """Return the one token in the request *head*."""
    (value,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization:")]
    prefix = b"Authorization: Bearer "
    assert value.startswith(prefix)
    return value[len(prefix) :].decode()


def fingerprints(audience: str, *serials: int) -> list[str]:
    """Return the fingerprints of the *serials*th tokens for *audience*."""
    return [fingerprint(token_of(audience, serial)) for serial in serials]


def refusals(it: Proxy) -> list[int]:
    """Return the serials of the tokens that the keeper was told were refused."""
    return [one.mint for one in it.keeper.all(TokenRefusal)]


def replays(it: Proxy) -> list[bool]:
    """Return for each second send that the keeper was told of whether its token was refused again."""
    return [one.refused_again for one in it.keeper.all(Replayed)]


async def recorded(it: Proxy, count: int = 1) -> Record:
    """Return the record of the *count*th exchange once it is on disk, checked for tokens."""
    await it.ended(count)

    def records() -> list[Record]:
        return [line for line in journal_lines(it.directory) if line["kind"] == "exchange"]

    await eventually(lambda: len(records()) >= count)
    record = records()[count - 1]
    assert "canary" not in str(record)
    return record


def intents(it: Proxy) -> list[Record]:
    """Return the intents on disk."""
    return [line for line in journal_lines(it.directory) if line["kind"] == "intent"]


def agrees(reply: Reply, record: Record, *, sent: str) -> None:
    """Check that answer and record of a failed exchange say the same, and that nothing in it is the bank's."""
    problem = reply.problem
    assert (problem["sent_upstream"], record["sent_upstream"]) == (sent, sent)
    assert (record["status"], record["code"], record["origin"]) == (reply.status, problem["code"], "proxy")
    assert record["id"] == problem["request_id"]
    assert f'details="{problem["code"]}"'.encode() in (reply.header(b"Proxy-Status") or b"")
    if sent != "no":
        assert problem["retryable"] is False


async def next_caller_is_served(it: Proxy) -> Reply:
    """Make one more request on a connection of its own and return its answer, which is the script's last step's."""
    before = len(it.bank.requests)
    reply = await ask(it.port, request(b"GET", b"/open/next"))
    assert reply.status == 200
    assert len(it.bank.requests) == before + 1
    return reply


async def callers_are(it: Proxy, count: int) -> None:
    """Wait until *count* callers are connected, as far as the proxy knows."""
    await eventually(lambda: sum(one.transport is not None for one in it.server.connections) == count)


async def exchanged(connection: Wire, *pieces: bytes, method: str = "GET") -> Reply:
    """Send *pieces* on *connection* and return the answer."""
    await connection.send(*pieces)
    return await connection.answer(method=method)


class Judge:
    """A step: a bank that refuses the tokens *refuses* names by their serials; *bank* is set once it runs."""

    def __init__(self, *refused: int, audience: str = "open") -> None:
        self.refused = {token_of(audience, serial) for serial in refused}
        self.bank: Bank | None = None

    async def __call__(self, peer: Peer) -> None:
        """Answer the request that has just been read."""
        assert self.bank is not None
        token = bearer(self.bank.requests[-1].head)
        await peer.send(REFUSED if token in self.refused else OK)


def afterwards(first: bytes, *more: bytes, ready: asyncio.Event) -> Step:
    """Answer with *first*, and with each of *more* in a segment of its own once *ready* is set."""

    async def step(peer: Peer) -> None:
        await peer.send(first)
        while not (ready.is_set() or peer.reader.at_eof()):  # noqa: ASYNC110 - either, not one event
            await asyncio.sleep(0.005)
        for piece in more:
            await peer.send(piece)
            await asyncio.sleep(0.01)

    return step


class Slots:
    """The keeper's real slots behind a running proxy's board; messages take a turn of the loop, as over the link."""

    def __init__(self, it: Proxy, *, endless: bool = True) -> None:
        self._it = it
        self._endless = endless
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mints: dict[str, int] = {}
        self.received: list[TokenRefusal | TokenAccepted | Replayed] = []
        serials = iter(range(1, 1_000_000))
        self._slots = {
            key.digest: Slot(
                key,
                origins=frozenset({it.gateway.table.routes[0].own.origin}),
                mint=lambda audience=key.audience: self._mint(audience),  # type: ignore[misc]
                clock=SystemClock(),
                entropy=SystemEntropy(),
                observe=lambda _: None,
                publish=self._publish,
                serial=lambda: next(serials),
                ask=partial(self._ask, key.digest),
            )
            for key in it.gateway.table.origins()
        }

    async def _mint(self, audience: str) -> Minted:
        await asyncio.sleep(0.02)
        self.mints[audience] = self.mints.get(audience, 0) + 1
        return Minted(value=Secret(token_of(audience, self.mints[audience])), lifetime=300.0)

    def _publish(self, slot: Slot) -> None:
        self._loop.call_soon(self._it.gateway.tokens.on_update, token_update(slot))

    def _ask(self, digest: str, mint: int, since: float) -> None:
        self._loop.call_soon(self._it.gateway.tokens.on_asked, TokenAsked(digest, mint, since))

    def _on_message(self, message: TokenRefusal | TokenAccepted | Replayed) -> None:
        self.received.append(message)
        self._spawn(self._answer(message))

    async def _answer(self, message: TokenRefusal | TokenAccepted | Replayed) -> None:
        slot = self._slots[message.key]
        if isinstance(message, TokenRefusal):
            outcome = await slot.replace(
                message.mint, route=message.route, source=message.source, behind=message.behind
            )
            self._loop.call_soon(self._it.gateway.tokens.on_answer, RefusalAnswer(message.ask, outcome))
        elif isinstance(message, TokenAccepted):
            slot.replacement.accepted(message.mint, sent=message.sent)
        elif message.refused_again:
            slot.refused_fresh(message.mint, route=message.route, source=message.source)
        else:
            slot.replay_succeeded(message.mint, route=message.route, source=message.source)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Slots"]:
        """Mint, answer what the board asks, and end with the block."""
        self._it.gateway.tokens._send = self._on_message
        for slot in self._slots.values():
            self._spawn(slot.run())
        board = self._it.gateway.tokens
        try:
            await eventually(lambda: all(board.get(slot.key) for slot in self._slots.values()))
            yield self
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
