"""TLS to the bank: OpenSSL between a socket's transport and the protocol above, one call in each direction.

The event loops' own TLS covers every use; this covers one: it calls OpenSSL again only while data is pending (one
exception less per response), encrypts and sends in one step, and reads into a buffer shared by all connections, so that
a stalled one holds no memory. Compared with uvloop's TLS in bench/README.md.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Final

from proxy.http1.write_coalescer import WriteCoalescer

# Bytes of one socket read; and the size of a TLS record (RFC 8446 5.1), so that one read takes one record.
_READ_BYTES: Final = 131072
_RECORD_BYTES: Final = 16384


class Shared:
    """Shared by the connections of one loop: the *coalescer*, and read buffers, which each read empties completely."""

    def __init__(self) -> None:
        self.coalescer = WriteCoalescer()
        self.raw = memoryview(bytearray(_READ_BYTES))
        self.plain = memoryview(bytearray(_RECORD_BYTES))


class TlsTransport(asyncio.BufferedProtocol):
    """The protocol of a connected socket, and the transport of *protocol*, which gets it once the peer is verified.

    `data_received(b"")` reports that bytes arrived without complete data (half a record, or a record of another kind):
    the socket is not readable any more then, and nothing else would show that a record has started.
    `unfinished`: more follows the data being delivered: half a record, a close_notify, or bytes that are no TLS.
    `secured` ends with the handshake: it raises ssl.SSLError, ssl.SSLCertVerificationError, or OSError if the
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
        # The methods that the wrapper calls; this saves a Python call per read and write.
        inner: Any = getattr(self._tls, "_sslobj", self._tls)
        self._take: Any = inner.read
        self._write: Any = inner.write
        self._open = False
        self.unfinished = False
        self._failure: Exception | None = None
        self.secured: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<TlsTransport {self._tls.version() if self._open else 'in the handshake'}>"

    # Called as the socket's protocol.

    def connection_made(self, transport: Any) -> None:
        """Start the handshake."""
        self._lower = transport
        self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return the buffer for the next read."""
        return self._shared.raw

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt the received bytes, or continue the handshake."""
        self._incoming.write(self._shared.raw[:nbytes])
        if not self._open:
            self._handshake()
            if not self._open or not self._incoming.pending:
                return
        self._decrypt()

    def eof_received(self) -> None:
        """Report the end of data: without a close_notify the data may be truncated."""
        if self._open:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the socket is closed."""
        if self._open:
            self._protocol.connection_lost(self._failure or exc)
        elif not self.secured.done():
            self.secured.set_exception(self._failure or exc or ConnectionResetError("closed in the handshake"))

    def pause_writing(self) -> None:
        """Report that the socket's write buffer is full."""
        if self._open:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Report that the write buffer has room again."""
        if self._open:
            self._protocol.resume_writing()

    # Called as the protocol's transport.

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt *data*; OpenSSL buffers it until it is sent at the end of this loop iteration."""
        try:
            self._write(data)
        except ssl.SSLError as error:
            self._break(error)
            return
        self._shared.coalescer.put(self)

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Encrypt all *pieces* and send now, after what `write` has encrypted."""
        try:
            for piece in pieces:
                self._write(piece)
        except ssl.SSLError as error:
            self._break(error)
            return
        self.flush()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of unsent bytes at which writing pauses and resumes."""
        self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        return self._outgoing.pending + self._lower.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return extra information of the socket's transport."""
        return self._lower.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether the transport is closing."""
        return self._lower.is_closing()

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading from the socket."""
        self._lower.resume_reading()

    def close(self) -> None:
        """Send close_notify and close, without waiting for the peer's (RFC 8446 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # raised since the peer's close_notify is missing
            self._tls.unwrap()
        self.flush()
        self._lower.close()

    def abort(self) -> None:
        """Close immediately."""
        self._lower.abort()

    # Internal.

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return
        except ssl.SSLError as error:
            self.flush()  # sends the alert to the peer
            self._failure = error
            self._lower.close()
            return
        self.flush()
        self._open = True
        self._protocol.connection_made(self)  # type: ignore[arg-type]  # it has the methods of one
        if not self.secured.done():
            self.secured.set_result(None)

    def _decrypt(self) -> None:
        """Deliver all decrypted data in one call, since the protocol above writes once per call."""
        plain: Any = self._shared.plain  # typeshed lets memoryviews be sliced by integers only
        take = self._take
        pieces = []
        ended = unfinished = False
        try:
            while self._incoming.pending:  # a record fits into the buffer, so nothing decrypted is left over
                size = take(_RECORD_BYTES, plain)
                if not size:
                    ended = True
                    break
                pieces.append(bytes(plain[:size]))
        except ssl.SSLWantReadError:
            unfinished = True  # half a record, or one that holds no data
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
        """Send the encrypted bytes, unless the socket is closed."""
        if self._outgoing.pending and not self._lower.is_closing():
            self._lower.write(self._outgoing.read())
