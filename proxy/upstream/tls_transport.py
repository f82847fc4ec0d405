"""TLS towards the bank: OpenSSL between a socket's transport and the protocol above, in one call each way.

The event loops' own TLS serves every use there is. This one serves one: it asks OpenSSL for more only while there is
more (an exception less per answer), encrypts and sends in one step, and reads into a buffer that all connections share,
so that a stalled one holds no memory. Measured with uvloop's: see bench/README.md.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Final

from proxy.upstream.write_coalescer import WriteCoalescer

# Of the socket at once; and as much as a TLS record carries (RFC 8446 5.1), so that one read takes one record.
_READ_BYTES: Final = 131072
_RECORD_BYTES: Final = 16384


class Shared:
    """What connections of one loop share: the *outbox*, and what they read into, which each empties in one go."""

    def __init__(self) -> None:
        self.outbox = WriteCoalescer()
        self.raw = memoryview(bytearray(_READ_BYTES))
        self.plain = memoryview(bytearray(_RECORD_BYTES))


class TlsTransport(asyncio.BufferedProtocol):
    """The protocol of a connected socket, and the transport of *protocol*, which hears of it once the peer is verified.

    What came without ending in data, half a record or one of another kind, is told by `data_received(b"")`: the socket
    is not readable any more then, and nothing else would show that a record has begun.
    `unfinished`: behind the data that is being told there is more: half a record, a close_notify, or what is no TLS.
    `secured` ends with the handshake: it raises ssl.SSLError, ssl.SSLCertVerificationError, or OSError when the
    connection ends before.
    """

    __slots__ = (
        "_failure", "_incoming", "_lower", "_open", "_outgoing", "_protocol", "_shared", "_take", "_tls", "_write",
        "secured", "unfinished",
    )  # fmt: skip

    _lower: asyncio.Transport

    def __init__(
        self, protocol: asyncio.Protocol, *, context: ssl.SSLContext, server_hostname: str, shared: Shared
    ) -> None:
        self._protocol = protocol
        self._shared = shared
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # What the wrapper calls; without it a Python call less each way.
        inner: Any = getattr(self._tls, "_sslobj", self._tls)
        self._take: Any = inner.read
        self._write: Any = inner.write
        self._open = False
        self.unfinished = False
        self._failure: Exception | None = None
        self.secured: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<TlsTransport {self._tls.version() if self._open else 'in the handshake'}>"

    # The socket's protocol.

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake."""
        self._lower = transport
        self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where to put what comes."""
        return self._shared.raw

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        self._incoming.write(self._shared.raw[:nbytes])
        if not self._open:
            self._handshake()
            if not self._open or not self._incoming.pending:
                return
        self._decrypt()

    def eof_received(self) -> None:
        """End: without a close_notify nobody knows whether that was all."""
        if self._open:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that the socket is closed."""
        if self._open:
            self._protocol.connection_lost(self._failure or exc)
        elif not self.secured.done():
            self.secured.set_exception(self._failure or exc or ConnectionResetError("closed in the handshake"))

    def pause_writing(self) -> None:
        """Hand on that the socket's buffer is full."""
        if self._open:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that there is room again."""
        if self._open:
            self._protocol.resume_writing()

    # The protocol's transport.

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt, and send at the end of this turn of the loop: OpenSSL keeps it until then."""
        try:
            self._write(data)
        except ssl.SSLError as error:
            self._break(error)
            return
        self._shared.outbox.put(self)

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Encrypt all and send it now, behind what `write` has encrypted."""
        try:
            for piece in pieces:
                self._write(piece)
        except ssl.SSLError as error:
            self._break(error)
            return
        self.flush()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set at how many unsent bytes writing pauses."""
        self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are unsent."""
        return self._outgoing.pending + self._lower.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the socket's transport knows."""
        return self._lower.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether it ends."""
        return self._lower.is_closing()

    def pause_reading(self) -> None:
        """Leave what comes in the socket."""
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        self._lower.resume_reading()

    def close(self) -> None:
        """Say close_notify and close; the peer's need not be waited for (RFC 8446 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's
            self._tls.unwrap()
        self.flush()
        self._lower.close()

    def abort(self) -> None:
        """Close at once."""
        self._lower.abort()

    # In between.

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return
        except ssl.SSLError as error:
            self.flush()  # the alert that tells the peer
            self._failure = error
            self._lower.close()
            return
        self.flush()
        self._open = True
        self._protocol.connection_made(self)  # type: ignore[arg-type]  # it is one by its methods
        if not self.secured.done():
            self.secured.set_result(None)

    def _decrypt(self) -> None:
        """Hand on all that can be read: one call, since what is above writes once for each."""
        plain: Any = self._shared.plain  # typeshed lets memoryviews be sliced by integers only
        take = self._take
        pieces = []
        ended = unfinished = False
        try:
            while self._incoming.pending:  # what is decrypted was taken: a record fits into the buffer
                size = take(_RECORD_BYTES, plain)
                if not size:
                    ended = True
                    break
                pieces.append(bytes(plain[:size]))
        except ssl.SSLWantReadError:
            unfinished = True  # half a record, or one that is not data
        except ssl.SSLError as error:
            self._failure = error
        if self._outgoing.pending:
            self.flush()
        self.unfinished = unfinished or ended or self._failure is not None
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if unfinished:
            self._protocol.data_received(b"")
        elif self._failure is not None:
            self._lower.close()
        elif ended:
            self._protocol.eof_received()

    def _break(self, error: ssl.SSLError) -> None:
        self._failure = error
        self._lower.abort()

    def flush(self) -> None:
        """Send what is encrypted, unless the socket is closed."""
        if self._outgoing.pending and not self._lower.is_closing():
            self._lower.write(self._outgoing.read())
