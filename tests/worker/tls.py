"""Callers over TLS: Python's own, one whose bytes a test puts on the wire itself, and OpenSSL for what Python lacks."""

import asyncio
import contextlib
import ctypes
import ctypes.util
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

from proxy.clock import Clock, SystemClock
from proxy.worker.caller_tls import TlsCallerServer
from proxy.worker.gateway_factory import caller_tls
from tests.upstream.certificates import Authority, Identity
from tests.worker.support import Proxy
from tests.worker.values import SERVER
from tests.worker.wire import PATIENCE, Reply, Wire, wire

SYSTEM = SystemClock()

HOST = "127.0.0.1"


def product_context(identity: Identity, *, client_authority: Identity | None = None) -> ssl.SSLContext:
    """Return the listener's context as the product makes it."""
    context = caller_tls(
        replace(
            SERVER,
            certificate_file=str(identity.file),
            key_file=str(identity.file),
            client_ca_file=str(client_authority.file) if client_authority else "",
        )
    )
    assert context is not None
    return context


def client_context(authority: Authority, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Return what callers use; *version* is the only one they speak."""
    context = ssl.create_default_context(cafile=str(authority.own.file))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@contextlib.asynccontextmanager
async def listening(it: Proxy, context: ssl.SSLContext, *, clock: Clock = SYSTEM) -> AsyncIterator[int]:
    """Let callers over TLS reach *it*; gives the port."""
    server = await asyncio.get_running_loop().create_server(TlsCallerServer(it.server, context, clock=clock), HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in it.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def tls_wire(port: int, context: ssl.SSLContext, *, limit: int = 262144) -> AsyncIterator[Wire]:
    """Open a connection over TLS by the event loop's own client."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=HOST, limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def tls_ask(port: int, context: ssl.SSLContext, data: bytes) -> Reply:
    """Return the answer to *data* on a connection of its own."""
    async with tls_wire(port, context) as caller:
        await caller.send(data)
        return await caller.answer()


class Below:
    """A caller whose records a test sees and sends; its handshake is not done yet."""

    def __init__(self, raw: Wire, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=HOST, session=session)
        self.segments: list[bytes] = []  # what came, one entry per read

    def records(self, data: bytes = b"") -> bytes:
        """Return the bytes that must be sent next: what the handshake has left, and *data* as records."""
        if data:
            self.tls.write(data)
        return self._outgoing.read()

    def shaken(self) -> bool:
        """Go on with the handshake; return whether it is over."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def hear(self) -> bytes:
        """Wait for bytes, give them to OpenSSL and return them; b"" at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            data = await self.raw.reader.read(65536)
        if data:
            self._incoming.write(data)
            self.segments.append(data)
        return data

    async def shake(self) -> None:
        """Do the handshake; its last bytes may be left to `records`."""
        while not self.shaken():
            await self.raw.send(self.records())
            await self.hear()

    async def send(self, data: bytes) -> None:
        """Send *data* in records."""
        await self.raw.send(self.records(data))

    async def read(self, size: int) -> bytes:
        """Return *size* decrypted bytes, fewer if the connection ends."""
        found = b""
        while len(found) < size:
            try:
                piece = self.tls.read(size - len(found))
            except ssl.SSLWantReadError:
                if not await self.hear():
                    break
            else:
                if not piece:
                    break
                found += piece
        return found

    def was_told_the_end(self) -> bool:
        """Return whether a close_notify has come, when all has been read."""
        self._incoming.write_eof()
        try:
            return self.tls.read(1) == b""
        except ssl.SSLEOFError:
            return False


@contextlib.asynccontextmanager
async def below(
    port: int, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None, receive_buffer: int = 0
) -> AsyncIterator[Below]:
    """Open a connection on which the test does TLS."""
    async with wire(port, receive_buffer=receive_buffer) as raw:
        yield Below(raw, context, session)


class OpenSsl:
    """A client of libssl's own interface, without a check of certificates: it can send what Python's `ssl` can't."""

    TLS_1_2, TLS_1_3 = 0x0303, 0x0304

    def __init__(self, version: int) -> None:
        name = ctypes.util.find_library("ssl")
        assert name is not None
        self._lib = lib = ctypes.CDLL(name)
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_new", "BIO_s_mem"):
            getattr(lib, function).restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
        lib.SSL_CTX_ctrl(self._context, 123, ctypes.c_long(version), None)  # SSL_CTRL_SET_MIN_PROTO_VERSION
        lib.SSL_CTX_ctrl(self._context, 124, ctypes.c_long(version), None)  # SSL_CTRL_SET_MAX_PROTO_VERSION
        self._ssl = ctypes.c_void_p(lib.SSL_new(self._context))
        self._incoming, self._outgoing = (ctypes.c_void_p(lib.BIO_new(ctypes.c_void_p(lib.BIO_s_mem()))) for _ in "io")
        lib.SSL_set_bio(self._ssl, self._incoming, self._outgoing)
        lib.SSL_set_connect_state(self._ssl)

    def free(self) -> None:
        """Give its memory back."""
        self._lib.SSL_free(self._ssl)
        self._lib.SSL_CTX_free(self._context)

    def take(self, data: bytes) -> None:
        """Give it what has come."""
        self._lib.BIO_write(self._incoming, data, len(data))

    def give(self) -> bytes:
        """Return what it wants to send."""
        buffer = ctypes.create_string_buffer(1048576)
        size = self._lib.BIO_read(self._outgoing, buffer, len(buffer))
        return buffer.raw[: max(size, 0)]

    def shake(self) -> bool:
        """Go on with the handshake; return whether it is over."""
        return bool(self._lib.SSL_do_handshake(self._ssl) == 1)

    def write(self, data: bytes) -> bool:
        """Encrypt *data*; return whether that was possible."""
        return bool(self._lib.SSL_write(self._ssl, data, len(data)) == len(data))

    def read(self) -> bytes:
        """Return decrypted bytes, as many as there are."""
        buffer = ctypes.create_string_buffer(65536)
        size = self._lib.SSL_read(self._ssl, buffer, len(buffer))
        return buffer.raw[: max(size, 0)]

    def demand_key_update(self) -> None:
        """Send a KeyUpdate that demands one (RFC 8446 4.6.3)."""
        assert self._lib.SSL_key_update(self._ssl, 1) == 1
        self.shake()

    def renegotiate(self) -> None:
        """Begin another handshake on this connection (TLS 1.2)."""
        assert self._lib.SSL_renegotiate(self._ssl) == 1
        self.shake()


@contextlib.asynccontextmanager
async def openssl_wire(port: int, version: int, *, receive_buffer: int = 0) -> AsyncIterator[tuple[OpenSsl, Wire]]:
    """Open a connection with its handshake done by libssl."""
    peer = OpenSsl(version)
    try:
        async with wire(port, receive_buffer=receive_buffer) as raw:
            async with asyncio.timeout(PATIENCE):
                while not peer.shake():
                    await raw.send(peer.give())
                    peer.take(await raw.reader.read(65536))
            await raw.send(peer.give())
            yield peer, raw
    finally:
        peer.free()
