"""A legacy and a modern bank for tests: each a token endpoint and an API on one port, which counts what it accepts.

Both run on the test's event loop, by asyncio's protocols: some 40 us a request. A request is accepted once it was read
whole, unless it is answered with a 401, which executes nothing. What happens after that is a `Fault`.
"""

import asyncio
import contextlib
import enum
import hashlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again
from typing import Self
from urllib.parse import parse_qs

from tests.cli.serving import make_pair
from tests.journeys.caller import Request

# A caller's number for one try: the bank gets it as any header of the caller's.
TRY = "X-Try"
PAYMENTS = "/payment/v2/payments"
_ADFS, _MODERN = "/adfs/oauth2/token", "/oauth2/token"
_RESOURCE, _AUDIENCE = "JPMC:URI:RS-000000-00000-Payments-TEST", "jpm:uri:test:payments"
# For tables whose bank fails on purpose, which is no reason to go back.
QUIET_GUARD = "max_failure_ratio = 1.0\nmax_client_error_ratio = 1.0"
_RESET = struct.pack("ii", 1, 0)

_CONFIGURATION = """\
environment = "client-testing"
data_directory = "data"

[server]
listen = "127.0.0.1:0"
workers = {workers}

[admin]
listen = "127.0.0.1:0"

[request_log]
stdout = false
database = ""
file = "requests.jsonl"
index_headers = ["X-Try", "Idempotency-Key"]

[upstreams.before]
url = "{legacy}"
{upstream}

[upstreams.after]
url = "{modern}"
{upstream}

[credentials.old]
flavor = "adfs"
client_id = "CC-000000-A000000-000000-TEST"
private_key_file = "old.key"
certificate_file = "old.crt"
token_url = "{legacy}{adfs_path}"

[credentials.new]
flavor = "jwt"
client_id = "5d2f8c1e-0b7a-4c7e-9a3d-3f6f5a1c9b10"
private_key_file = "new.key"
certificate_file = "new.crt"
token_url = "{modern}{modern_path}"

[[routes]]
name = "payments"
path = "/payment"
upstream = "before"
credential = "old"
audience = "{resource}"
"""
TABLE = """
[migrations.{name}]
routes = ["payments"]
legacy = {{ credential = "old", audience = "{resource}" }}
modern = {{ credential = "new", audience = "{audience}", upstream = "after" }}
{more}
"""


class Fault(enum.Enum):
    """What becomes of a request that was read whole."""

    NONE = "answered"
    HANG = "accepted, and not answered before `release`"
    SLOW = "accepted, and answered after `Side.slow_seconds`"
    FAIL = "accepted, and answered with 500"
    RESET = "accepted, and the connection is reset"
    REFUSE = "not accepted: 401, as for a token that it does not know"


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the API of a side, read whole."""

    method: str
    headers: Mapping[str, str]

    @property
    def key(self) -> str:
        """Return its Idempotency-Key, "" if it has none."""
        return self.headers.get("idempotency-key", "")


Decide = Callable[[Call], Fault]


def answers(_call: Call) -> Fault:
    """Have every request answered."""
    return Fault.NONE


def hangs(_call: Call) -> Fault:
    """Have every request accepted and not answered."""
    return Fault.HANG


def drawn(shares: Mapping[Fault, float], *, seed: int) -> Decide:
    """Return a decision that draws each fault with its share of requests, the rest answered; the same for a seed."""
    chance = Random(seed)  # noqa: S311 - faults, no secret

    def decide(_call: Call) -> Fault:
        at = chance.random()
        for fault, share in shares.items():
            at -= share
            if at < 0:
                return fault
        return Fault.NONE

    return decide


@dataclass(eq=False, kw_only=True)
class Side:
    """One of the two banks, and what it has seen; *decide* says what becomes of each request."""

    name: str
    token_path: str
    parameter: tuple[str, str]
    decide: Decide = answers
    # Seconds before any answer, and before one that is SLOW.
    latency: float = 0.0
    slow_seconds: float = 0.3
    token_fails: bool = False
    url: str = ""
    # How often each Idempotency-Key was accepted, by a payment.
    accepted: Counter[str] = field(default_factory=Counter)
    # How often each X-Try arrived with a whole head, and how often it was answered with a 401.
    arrived: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[Fault] = field(default_factory=Counter)
    # When what happened to which Idempotency-Key and X-Try, by the loop's clock.
    events: list[tuple[float, str, str, Fault]] = field(default_factory=list)
    minted: int = 0
    # What must never happen: tokens of the other side, and other defects of what arrived.
    defects: list[str] = field(default_factory=list)
    _revoked: int = 0
    _hung: set["_Wire"] = field(default_factory=set)
    _open: set["_Wire"] = field(default_factory=set)

    def revoke(self) -> None:
        """Refuse all tokens minted so far."""
        self._revoked = self.minted

    def release(self) -> None:
        """Answer all that hangs."""
        for wire in tuple(self._hung):
            self._hung.discard(wire)
            wire.answer(201)

    @property
    def hanging(self) -> int:
        """Return how many requests hang."""
        return len(self._hung)

    def mint(self, body: bytes) -> tuple[int, str]:
        """Return status and body of the answer to a token request."""
        if self.token_fails:
            return 503, '{"error": "temporarily_unavailable"}'
        form = parse_qs(body.decode())
        name, value = self.parameter
        if form.get(name) != [value] or not form.get("client_assertion"):
            self.defects.append(f"a token request to {self.name} without {name} or assertion")
            return 400, '{"error": "invalid_request"}'
        self.minted += 1
        return 200, f'{{"access_token": "{self.name}-{self.minted}", "token_type": "bearer", "expires_in": 3600}}'

    def knows(self, authorization: str) -> bool:
        """Return whether this is a token of this side that was not revoked."""
        side, _, number = authorization.removeprefix("Bearer ").partition("-")
        if side != self.name:
            self.defects.append(f"{self.name} got a token of {side or 'nobody'}")
            return False
        return int(number) > self._revoked

    def call(self, wire: "_Wire", call: Call) -> None:
        """Take a request to the API that was read whole."""
        fault = self.decide(call) if self.knows(call.headers.get("authorization", "")) else Fault.REFUSE
        loop, number = asyncio.get_running_loop(), call.headers.get(TRY.lower(), "")
        self.faults[fault] += 1
        self.events.append((loop.time(), call.key, number, fault))
        if fault is Fault.REFUSE:
            self.refused[number] += 1
            wire.answer(401, 'WWW-Authenticate: Bearer error="invalid_token"\r\n')
            return
        again = False
        if call.method == "POST" and call.key:
            again = self.accepted[call.key] > 0
            self.accepted[call.key] += 1
        match fault:
            case Fault.HANG:
                self._hung.add(wire)
            case Fault.RESET:
                wire.reset()
            case _:
                status = 500 if fault is Fault.FAIL else 200 if again or call.method != "POST" else 201
                seconds = self.latency + (self.slow_seconds if fault is Fault.SLOW else 0.0)
                if seconds:
                    loop.call_later(seconds, wire.answer, status)
                else:
                    wire.answer(status)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Listen on a port of its own for the block."""
        server = await asyncio.get_running_loop().create_server(lambda: _Wire(self), "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for wire in tuple(self._open):
                wire.reset()
            await server.wait_closed()


class _Wire(asyncio.Protocol):
    """A connection to a side: one request after the other, heads and bodies with a Content-Length."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._side._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        """Forget it: what hung on it is never answered."""
        self._transport = None
        self._side._open.discard(self)
        self._side._hung.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        self._received += data
        if self._head is None and not self._read_head():
            return
        if self._head is not None and len(self._received) >= self._length:
            method, path, headers = self._head
            body = bytes(self._received[: self._length])
            del self._received[: self._length]
            self._head = None
            if path == self._side.token_path:
                status, text = self._side.mint(body)
                self.answer(status, text=text)
            else:
                self._side.call(self, Call(method, headers))

    def answer(self, status: int, lines: str = "", *, text: str = "{}") -> None:
        """Send an answer, if the connection still stands."""
        if self._transport is not None:
            self._transport.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{lines}"
                f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
            )

    def reset(self) -> None:
        """End the connection with RST."""
        if self._transport is not None:
            connection: socket.socket = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def _read_head(self) -> bool:
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, path, _ = first.split()
        self._head, self._received = (method, path, headers), bytearray(rest)
        self._length = int(headers.get("content-length", "0"))
        if "transfer-encoding" in headers:
            self._side.defects.append("a body in chunks, which this stand-in does not read")
        if number := headers.get(TRY.lower()):
            self._side.arrived[number] += 1
        return True


@dataclass(frozen=True, slots=True)
class TwoBanks:
    """Both sides."""

    legacy: Side
    modern: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Return both, legacy first."""
        return self.legacy, self.modern

    def decide(self, how: Decide) -> None:
        """Have both sides do the same from now on."""
        for side in self.sides:
            side.decide = how

    def release(self) -> None:
        """Answer all that hangs at either side."""
        for side in self.sides:
            side.release()

    def twice(self) -> set[str]:
        """Return the Idempotency-Keys that both sides accepted."""
        return set(self.legacy.accepted) & set(self.modern.accepted)

    def at(self, key: str) -> str:
        """Return the names of the sides that accepted *key*."""
        return " ".join(side.name for side in self.sides if side.accepted[key])

    def reached(self, number: str) -> bool:
        """Return whether the try *number* arrived at a side and was not just answered by a refusal of its token."""
        return any(side.arrived[number] > side.refused[number] for side in self.sides)

    def arrived(self, number: str) -> bool:
        """Return whether the try *number* arrived at a side at all."""
        return any(side.arrived[number] for side in self.sides)

    def check(self) -> None:
        """Check that no side got a token of the other's, or anything else that it must not."""
        assert [*self.legacy.defects, *self.modern.defects] == []

    def summary(self) -> str:
        """Return what both have seen, a line a side."""
        return "\n".join(
            f"{side.name}: {sum(side.accepted.values())} payments accepted of {len(side.accepted)} keys, "
            f"{side.minted} tokens; " + ", ".join(f"{fault.name} {count}" for fault, count in side.faults.items())
            for side in self.sides
        )


@asynccontextmanager
async def two_banks() -> AsyncIterator[TwoBanks]:
    """Run both sides for the block."""
    async with contextlib.AsyncExitStack() as stack:
        legacy = Side(name="legacy", token_path=_ADFS, parameter=("resource", _RESOURCE))
        modern = Side(name="modern", token_path=_MODERN, parameter=("audience", _AUDIENCE))
        yield TwoBanks(
            await stack.enter_async_context(legacy.serving()), await stack.enter_async_context(modern.serving())
        )


def table(name: str = "payments", *, more: str = "") -> str:
    """Return the lines of a migration between the two."""
    return TABLE.format(name=name, resource=_RESOURCE, audience=_AUDIENCE, more=more)


def configured(
    directory: Path,
    banks: TwoBanks,
    *,
    callers: Iterable[str] = (),
    workers: int = 1,
    upstream: str = "",
    migration: str | None = None,
    more: str = "",
) -> Path:
    """Write a configuration with a rule on legacy and a migration (`table`), and return its path.

    *more* is whole tables; *upstream* lines of both upstreams.
    """
    for name in ("old", "new"):
        if not (directory / f"{name}.key").exists():
            make_pair(directory, name)
    text = _CONFIGURATION.format(
        workers=workers, legacy=banks.legacy.url, modern=banks.modern.url, upstream=upstream,
        adfs_path=_ADFS, modern_path=_MODERN, resource=_RESOURCE,
    )  # fmt: skip
    for caller in callers:
        text += f'[callers.{caller}]\napi_key_sha256 = ["{hashlib.sha256(caller.encode()).hexdigest()}"]\n'
    path = directory / "payproxy.toml"
    path.write_text(text + (table() if migration is None else migration) + more)
    return path


def on_modern(configuration: Path) -> str:
    """Return the text of *configuration* without its migration and with its rule on modern, as `finish` says."""
    before, _, _ = configuration.read_text().partition("\n[migrations.")
    head, _, route = before.partition("[[routes]]")
    for old, new in (('"before"', '"after"'), ('"old"', '"new"'), (_RESOURCE, _AUDIENCE)):
        route = route.replace(old, new)
    return f"{head}[[routes]]{route}"


def on_legacy(configuration: Path) -> str:
    """Return the text of *configuration* without its migration; its rule is on legacy."""
    return configuration.read_text().partition("\n[migrations.")[0]


def pays(key: str, *, caller: str = "", number: str = "") -> Request:
    """Return the try *number* of a payment by *caller*."""
    headers = {"X-Payproxy-Key": caller} if caller else {}
    if number:
        headers[TRY] = number
    return Request(method="POST", path=PAYMENTS, key=key, headers=headers, body=b'{"amount": 10.00}')
