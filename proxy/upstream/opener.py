"""Opens connections to one bank base URL: DNS, TCP, egress proxy, TLS.

Not compiled by mypyc: it awaits inside `async with`.
"""

import asyncio
import ssl
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.upstream.connection import Connection, Home
from proxy.upstream.dial import Egress, dial
from proxy.upstream.errors import HandshakeBroken, unreachable
from proxy.upstream.resolver import Address, Lookup, Resolver
from proxy.upstream.tls import client_context
from proxy.upstream.tls_transport import Shared, UpstreamTls


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A bank base URL and its connection settings; times in seconds, *egress_proxy* as `http://host:port` or empty."""

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


class Opener:
    """Opens connections to *upstream* that return to the pool *home*.

    Raises tls.TlsUnusable if its certificate files can't be used.
    """

    def __init__(self, upstream: Upstream, *, clock: Clock, lookup: Lookup, home: Home) -> None:
        self._upstream = upstream
        self._clock = clock
        self._home = home
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
        self._shared = Shared()

    def __repr__(self) -> str:
        return f"<Opener {self.origin}>"

    async def open(self) -> Connection:
        """Return a new connection; raises UpstreamUnreachable if that fails or takes longer than connect_timeout."""
        try:
            async with asyncio.timeout(self._upstream.connect_timeout):
                return await self._first_that_opens()
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; UnicodeError: name invalid in IDNA
            raise unreachable(error, where=f"{self._upstream.host}:{self._upstream.port}") from None

    async def _first_that_opens(self) -> Connection:
        """Try each address in turn with its share of the remaining time, so that a dead one does not use it up."""
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
                raise  # another address of this name is unlikely to have another certificate
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
        secure = UpstreamTls(
            connection, context=self._context, server_hostname=self._upstream.host, shared=self._shared
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
            home=self._home,
        )
