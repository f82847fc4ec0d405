"""The simulator as a server: aiohttp towards the network, the world and its endpoints behind.

It has two listeners of one world: the APIs' host, and a second one for report files, which the bank keeps elsewhere.
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.simulator.answer import Answer, text_answer
from proxy.simulator.apis import api
from proxy.simulator.body import read_body
from proxy.simulator.call import Call
from proxy.simulator.clients import ADFS_CLIENT_ID, JWT_CLIENT_ID
from proxy.simulator.control import PREFIX, control
from proxy.simulator.delivery import close, deliver, reset
from proxy.simulator.fault_answers import fault_answer
from proxy.simulator.faults import AFTER_THE_BODY, BEFORE_THE_BODY, Fault, FaultKind
from proxy.simulator.received import Received, bearer, without_credentials
from proxy.simulator.scenario import Step, play
from proxy.simulator.strict_head import head_fault
from proxy.simulator.token_endpoints import TOKEN_PREFIXES, client_named, token_endpoint
from proxy.simulator.world import World

_LONGEST_LINE = 65536
_MOST_HEADERS = 2048
# Handlers that a fault keeps busy (slow, endless) get this many seconds to end when the simulator stops.
_GRACE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of the server's certificate and key; *client_ca*: client certificates are asked for, not required."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return the server's TLS context (1.2 and up)."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


class Bank:
    """A running simulator: *url* of the APIs and token endpoints, *files_url* of the second host, and its *world*."""

    def __init__(self, world: World, *, host: str, tls: TlsFiles | None) -> None:
        self.world = world
        self.url = ""
        self.files_url = ""
        self._host = host
        self._scheme = "http" if tls is None else "https"
        self._tls = None if tls is None else tls.context()
        self._asks_for_certificates = tls is not None and tls.client_ca is not None
        self._server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            lingering_time=2.0,
        )
        self._listeners: list[asyncio.Server] = []

    async def listen(self, port: int, files_port: int) -> None:
        """Open both listeners; port 0 lets the system choose. Raises OSError if a port is taken."""
        ports = []
        for wanted in (port, files_port):
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(self._server, self._host, wanted, ssl=self._tls, backlog=1024)
            self._listeners.append(listener)
            ports.append(listener.sockets[0].getsockname()[1])
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.url, self.files_url = (f"{self._scheme}://{shown}:{each}" for each in ports)
        hosts = {shown, "127.0.0.1", "localhost", "[::1]"}
        self.world.origin, self.world.files_origin = self.url, self.files_url
        self.world.origins = frozenset(f"{self._scheme}://{each}:{ports[0]}" for each in hosts)

    def stop_listening(self) -> None:
        """Stop listening: new connections are refused, those that stand go on. `listen_again` undoes it."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def listen_again(self) -> None:
        """Listen on the same ports as before."""
        port, files_port = (int(url.rpartition(":")[2]) for url in (self.url, self.files_url))
        await self.listen(port, files_port)

    async def stop(self) -> None:
        """Close listeners and connections, cutting off handlers that a fault keeps busy."""
        self.stop_listening()
        self._server.pre_shutdown()
        await self._server.shutdown(_GRACE)
        self.world.log.close()

    def __repr__(self) -> str:
        return f"<Bank {self.url} {self.world!r}>"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request from head to answer."""
        call = self._call(request)
        world = self.world
        if fault := head_fault(call.target, call.headers):
            call.received.note = fault
            world.log.append_to_journal(call.received)
            return await self._last(request, call, text_answer(f"Bad Request: {fault}\n", status=400))
        if call.path.startswith(PREFIX):
            await read_body(request, call)
            return await deliver(request, control(call, world), broken=None, world=world)
        early = world.faults.take(
            BEFORE_THE_BODY, path=call.path, client=call.received.client_id, method=call.method, header=call.header
        )
        call.received.meets(early.values())
        if "reading" in early:
            await world.clock.sleep(early["reading"].seconds)
        if "early" in early:
            world.log.append_to_journal(call.received)
            return await self._early(request, call, early["early"])
        call.received.complete = await read_body(request, call)
        world.log.append_to_journal(call.received)
        if not call.received.complete:
            return close(request)
        met = self._met(call)
        answer = fault_answer(met["instead"], call, world) if "instead" in met else self._answer(call)
        if "delay" in met:
            await world.clock.sleep(met["delay"].seconds)
        broken = met.get("break")
        if broken is None or broken.kind not in (FaultKind.RESET, FaultKind.CLOSE):
            call.received.status = answer.status
        return await deliver(request, answer, broken=broken, world=world)

    def _call(self, request: web.BaseRequest) -> Call:
        transport = request.transport
        port = transport.get_extra_info("sockname")[1] if transport is not None else 0
        target = request.raw_path
        path = target.partition("?")[0]
        headers, mark = without_credentials(request.raw_headers)
        received = Received(
            when=self.world.now(),
            port=port,
            method=request.method,
            target=target,
            headers=headers,
            token_fingerprint=mark,
        )
        if not path.startswith(PREFIX):
            self.world.log.arrived(received)
        token = bearer(request.raw_headers)
        issued = self.world.tokens.find(token)
        if issued is not None:
            received.client_id = issued.client_id
        return Call(
            method=request.method,
            target=target,
            path=path,
            headers=request.raw_headers,
            peer=self._peer(transport) if self._asks_for_certificates else "",
            received=received,
            token=token,
        )

    def _peer(self, transport: asyncio.Transport | None) -> str:
        connection = None if transport is None else transport.get_extra_info("ssl_object")
        certificate = None if connection is None else connection.getpeercert(binary_form=True)
        if not certificate:
            return ""
        return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()

    def _met(self, call: Call) -> dict[str, Fault]:
        faults = self.world.faults
        if not faults:
            return {}
        client = call.received.client_id
        if call.path.startswith(TOKEN_PREFIXES):
            client = client_named(call)
        met = faults.take(AFTER_THE_BODY, path=call.path, client=client, method=call.method, header=call.header)
        call.received.meets(met.values())
        return met

    def _answer(self, call: Call) -> Answer:
        endpoint = token_endpoint if call.path.startswith(TOKEN_PREFIXES) else api
        return endpoint(call, self.world)

    async def _early(self, request: web.BaseRequest, call: Call, fault: Fault) -> web.StreamResponse:
        if fault.kind is FaultKind.DOWN:
            return close(request)
        if fault.kind is FaultKind.RESET_BEFORE:
            return reset(request)
        return await self._last(request, call, fault_answer(fault, call, self.world))

    async def _last(self, request: web.BaseRequest, call: Call, answer: Answer) -> web.StreamResponse:
        """Answer without reading the body, and close the connection."""
        call.received.status = answer.status
        response = await deliver(request, answer, broken=None, world=self.world)
        response.force_close()
        return response


@asynccontextmanager
async def simulator(
    *,
    clock: Clock,
    entropy: Entropy,
    tls: TlsFiles | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    files_port: int = 0,
    journal: Path | None = None,
    jwt_certificate: bytes = b"",
    adfs_certificate: bytes = b"",
) -> AsyncIterator[Bank]:
    """Run the simulator while the block lasts.

    The Mock client (`MOCK_CLIENT_ID`) is always registered; with *jwt_certificate* and *adfs_certificate*, PEM, so are
    `JWT_CLIENT_ID` and `ADFS_CLIENT_ID`. *journal* is a file to which every request is appended before its answer.
    """
    world = World(clock=clock, entropy=entropy, journal=journal)
    if jwt_certificate:
        world.register_jwt_client(JWT_CLIENT_ID, jwt_certificate)
    if adfs_certificate:
        world.register_adfs_client(ADFS_CLIENT_ID, adfs_certificate)
    bank = Bank(world, host=host, tls=tls)
    try:
        await bank.listen(port, files_port)
        yield bank
    finally:
        await bank.stop()


async def serve(
    listen_host: str,
    port: int,
    *,
    clock: Clock,
    entropy: Entropy,
    started: Callable[[Bank], None],
    tls: TlsFiles | None = None,
    files_port: int = 0,
    journal: Path | None = None,
    jwt_certificate: bytes = b"",
    adfs_certificate: bytes = b"",
    steps: Sequence[Step] = (),
    tell: Callable[[str], None] = print,
) -> None:
    """Run the simulator until cancelled, calling *started* once it listens; the rest as in `simulator`.

    Then the *steps* of a scenario are played; *tell* gets a line for each.
    """
    async with simulator(
        clock=clock,
        entropy=entropy,
        tls=tls,
        host=listen_host,
        port=port,
        files_port=files_port,
        journal=journal,
        jwt_certificate=jwt_certificate,
        adfs_certificate=adfs_certificate,
    ) as bank:
        started(bank)
        await play(steps, bank.world.faults, revoke=bank.world.tokens.revoke, clock=clock, tell=tell)
        await asyncio.Event().wait()
