"""The connections to one bank base URL: found idle, opened, bounded."""

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.errors import Overloaded
from proxy.upstream.connection import Connection
from proxy.upstream.dial import Egress, dial
from proxy.upstream.faults import HandshakeBroken, unreachable, unsent
from proxy.upstream.resolver import Address, Lookup, Resolver, system_lookup
from proxy.upstream.tls import client_context
from proxy.upstream.tls_transport import ReadBuffer, TlsTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A bank base URL and how to speak to it; times in seconds, *egress_proxy* as `http://host:port` or empty."""

    scheme: str
    host: str
    port: int
    connect_timeout: float
    response_timeout: float
    idle_timeout: float
    ca_file: str
    client_certificate_file: str
    client_key_file: str
    egress_proxy: str
    max_connections: int


class Pool:
    """Hands out connections to one upstream, never more at once than its max_connections.

    Raises tls.TlsUnusable when the upstream's certificate files can't be used.
    """

    def __init__(self, upstream: Upstream, *, clock: Clock, lookup: Lookup = system_lookup) -> None:
        self._upstream = upstream
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        if upstream.scheme == "https":
            self._context = client_context(
                ca_file=upstream.ca_file,
                certificate_file=upstream.client_certificate_file,
                key_file=upstream.client_key_file,
            )
        host = upstream.host.lower()
        authority = f"[{host}]:{upstream.port}" if ":" in host else f"{host}:{upstream.port}"
        self.origin = f"{upstream.scheme}://{authority}"
        egress = Egress.of(upstream.egress_proxy)
        self._tunnel_to = authority if egress else ""
        self._resolver = Resolver(
            egress.host if egress else host, egress.port if egress else upstream.port, clock=clock, lookup=lookup
        )
        self._buffer = ReadBuffer()
        self._idle: deque[Connection] = deque()  # the last in is the first out, so that those not needed grow old
        self._open: set[Connection] = set()
        self._slots = 0  # connections idle, in use and being opened
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        idle = len(self._idle)
        return f"<Pool {self.origin} [{self._slots - idle} in use, {idle} idle, {len(self._waiting)} waiting]>"

    def idle(self) -> Connection | None:
        """Return a pooled connection that is open, quiet and not too old, or None."""
        idle = self._idle
        if not idle:
            return None
        now = self._clock.monotonic()
        while idle:
            connection = idle.pop()
            if connection.take(now):
                return connection
        return None

    async def connect(self) -> Connection:
        """Return an idle connection or a new one.

        Raises Overloaded when no slot becomes free within connect_timeout, and UpstreamUnreachable when name look-up,
        TCP, egress proxy and TLS fail or together take longer than it.
        """
        connection = self.idle()
        if connection is not None:
            return connection
        if self._slots < self._upstream.max_connections:
            self._slots += 1
        else:
            connection = await self._turn()
            if connection is not None:
                return connection
        try:
            return await self._opened()
        except BaseException:
            self._free_slot()
            raise

    async def close(self) -> None:
        """Close all connections, those in use too, and wait until their sockets are closed."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        for connection in tuple(self._open):
            connection.abort()  # its slot wakes the first of those that wait, who finds the pool closed and so on
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    # What connections call.

    def take_back(self, connection: Connection) -> None:
        """Keep *connection*, or hand it to whoever has waited longest."""
        if self._closed:
            connection.close()
        elif not self._waiting:
            self._idle.append(connection)
        elif connection.take(self._clock.monotonic()) and not self._hand_over(connection):
            connection.release()

    def let_go(self, connection: Connection) -> None:
        """Free the slot of *connection*."""
        if connection in self._open:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
            self._free_slot()

    def gone(self, connection: Connection) -> None:
        """Forget *connection*, whose socket is closed."""
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    # Slots.

    async def _turn(self) -> Connection | None:
        """Wait for a connection, or for a slot to open one in (None)."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._upstream.connect_timeout):
                return await waiter
        except TimeoutError:
            if waiter.done() and not waiter.cancelled():
                return waiter.result()  # it came in the very last moment
            raise Overloaded("All connections to the bank are in use", retry_after=1) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                given = waiter.result()
                if given is None:
                    self._free_slot()
                else:
                    given.release()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _hand_over(self, given: Connection | None) -> bool:
        """Give a connection or a slot to whoever has waited longest; false when nobody waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def _free_slot(self) -> None:
        if not self._hand_over(None):
            self._slots -= 1

    # Opening.

    async def _opened(self) -> Connection:
        """Open a connection in a slot that is already counted."""
        if self._closed:
            raise unsent("the pool is closed")
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._upstream.connect_timeout):
                connection = await self._first_that_opens()
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; UnicodeError: a name that IDNA refuses
            raise unreachable(error, where=f"{self._upstream.host}:{self._upstream.port}") from None
        if self._closed or connection.closed:
            connection.abort()
            raise unsent("closed as soon as it was open")
        connection.connect_ms = (self._clock.monotonic() - began) * 1000
        self._open.add(connection)
        return connection

    async def _first_that_opens(self) -> Connection:
        """Try each address in turn; the time left is shared among those left, so that a dead first one spares some."""
        addresses = await self._resolver.addresses()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._upstream.connect_timeout
        failure: OSError = OSError("the name has no address")
        for index, address in enumerate(addresses):
            share = (end - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    return await self._open_to(address)
            except ssl.SSLCertVerificationError:
                raise  # another address of this name would hardly have another certificate
            except OSError as error:
                failure = error
        raise failure

    async def _open_to(self, address: Address) -> Connection:
        connected = await dial(address, tunnel_to=self._tunnel_to)
        loop = asyncio.get_running_loop()
        connection = self._connection()
        if self._context is None:
            await loop.create_connection(lambda: connection, sock=connected)
            return connection
        secure = TlsTransport(
            connection, context=self._context, server_hostname=self._upstream.host, buffer=self._buffer
        )
        transport, _ = await loop.create_connection(lambda: secure, sock=connected)
        try:
            await secure.secured
        except ConnectionError:
            raise HandshakeBroken("the connection ended in the handshake") from None
        except BaseException:
            transport.close()
            raise
        return connection

    def _connection(self) -> Connection:
        upstream = self._upstream
        return Connection(
            clock=self._clock,
            response_timeout=upstream.response_timeout,
            idle_timeout=upstream.idle_timeout,
            home=self,
        )
