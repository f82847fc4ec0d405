"""TLS of one connection: OpenSSL between a socket's transport and the protocol above, one call in each direction.

The event loops' own TLS covers every use; this covers one: it calls OpenSSL again only while data is pending (one
exception less per message), encrypts and sends in one step, and reads into buffers shared by all connections, so that
a stalled one holds no memory. Compared with uvloop's TLS in bench/README.md.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Final

from proxy.http1.tls_records import TlsRecords

# Bytes of one socket read.
_READ_BYTES: Final = 131072
# The size of a TLS record (RFC 8446 5.1), so that one call of OpenSSL takes one record.
_RECORD_BYTES: Final = 16384
# At most so much is put into one of OpenSSL's memory BIOs: an idle connection keeps the most that each ever held.
PIECE_BYTES: Final = 32768


class TlsBuffers:
    """Read buffers shared by the connections of one loop: each read empties them completely."""

    def __init__(self) -> None:
        self.raw = memoryview(bytearray(_READ_BYTES))
        # What one read completes: its own bytes, and half a record that came before.
        self.plain = memoryview(bytearray(_READ_BYTES + _RECORD_BYTES))


class TlsTransport(asyncio.BufferedProtocol):
    """The protocol of a connected socket, and after the handshake the transport of the protocol above.

    A connection with more than *most_dataless* records that hold no data (key updates, alerts) is cut off.
    Subclasses are the two sides. They implement `_secured`, which the handshake's end calls and which connects the
    protocol above, `_not_secured`, `_no_data`, `_ended` and `write`.
    """

    __slots__ = (
        "_buffers", "_dataless", "_failure", "_incoming", "_lower", "_most_dataless", "_open", "_outgoing",
        "_peer_closed", "_protocol", "_records", "_take", "_tls", "_write", "unfinished",
    )  # fmt: skip

    _lower: asyncio.Transport

    def __init__(
        self,
        context: ssl.SSLContext,
        buffers: TlsBuffers,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        most_dataless: int,
    ) -> None:
        self._buffers = buffers
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # The methods that the wrapper calls; this saves a Python call per read and write.
        inner: Any = getattr(self._tls, "_sslobj", self._tls)
        self._take: Any = inner.read
        self._write: Any = inner.write
        self._protocol: Any = None
        self._open = False
        self.unfinished = False  # more follows the data being delivered: half a record, a close_notify, or no TLS
        self._peer_closed = False  # by close_notify
        self._failure: Exception | None = None
        self._records = TlsRecords()
        self._dataless = 0  # records without data since the handshake
        self._most_dataless = most_dataless

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tls.version() if self._open else 'in the handshake'}>"

    # Called as the socket's protocol.

    def connection_made(self, transport: Any) -> None:
        """Store the socket's transport."""
        self._lower = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return the buffer for the next read."""
        return self._buffers.raw

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt the received bytes, or continue the handshake."""
        raw: Any = self._buffers.raw  # typeshed lets memoryviews be sliced by integers only
        filled = unsent = end = 0
        while end < nbytes and not self._peer_closed and self._failure is None:
            start = end
            end = self._records.end_of_piece(raw, start, min(start + PIECE_BYTES, nbytes))
            self._incoming.write(raw[start:end])
            if not self._open:
                self._handshake()
                self._records.ended = 0
                unsent = self._outgoing.pending
            elif not start:
                unsent = self._outgoing.pending
            if self._open:
                filled = self._decrypt(filled)
        if self._open:
            self._deliver(filled, unsent)

    def eof_received(self) -> None:
        """Report the end of data: without a close_notify the data may be truncated."""
        if self._open:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the socket is closed."""
        if self._open:
            self._protocol.connection_lost(self._failure or exc)
        else:
            self._not_secured(self._failure or exc or ConnectionResetError("closed in the handshake"))

    def pause_writing(self) -> None:
        """Report that the socket's write buffer is full."""
        if self._open:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Report that the write buffer has room again."""
        if self._open:
            self._protocol.resume_writing()

    # Called as the protocol's transport.

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
        self._notify_close()
        self._lower.close()

    def abort(self) -> None:
        """Close immediately."""
        self._lower.abort()

    def flush(self) -> None:
        """Send the encrypted bytes, unless the socket is closed."""
        if self._outgoing.pending and not self._lower.is_closing():
            self._lower.write(self._outgoing.read())

    # Called by, and for, the two sides.

    def _secured(self) -> None:
        """The handshake is over: set `_open` and connect the protocol above; what there is to send is not sent yet."""
        raise NotImplementedError

    def _not_secured(self, error: Exception) -> None:
        """The connection has ended with *error* before the handshake was over."""
        raise NotImplementedError

    def _no_data(self) -> None:
        """Bytes have come without complete data: half a record, or a record of another kind."""
        raise NotImplementedError

    def _ended(self) -> None:
        """The peer has sent close_notify."""
        raise NotImplementedError

    def _notify_close(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # raised since the peer's close_notify is missing
            self._tls.unwrap()
        self.flush()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
        except ssl.SSLError as error:
            self.flush()  # sends the alert to the peer
            self._failure = error.with_traceback(None)  # it refers to the frame, and so to this object
            self._lower.close()
        else:
            self._secured()

    def _decrypt(self, filled: int) -> int:
        """Take what the received bytes complete, behind *filled* bytes of the buffer; return how many there are."""
        plain: Any = self._buffers.plain
        take = self._take
        taken = 0
        self.unfinished = False
        try:
            while self._incoming.pending:  # a record fits into the buffer, so nothing decrypted is left over
                size = take(_RECORD_BYTES, plain[filled:] if filled else plain)
                if not size:
                    self._peer_closed = True
                    break
                filled += size
                taken += 1
        except ssl.SSLWantReadError:
            self.unfinished = True  # half a record, or one that holds no data
        except ssl.SSLError as error:
            self._failure = error.with_traceback(None)
        self._dataless += self._records.ended - taken
        if self._dataless > self._most_dataless and self._failure is None:
            self._failure = ConnectionAbortedError("too many TLS records without data")
        return filled

    def _deliver(self, filled: int, unsent: int) -> None:
        """Deliver *filled* decrypted bytes in one call, since the protocol above writes once per call."""
        if self._outgoing.pending > unsent:
            self.flush()  # alerts and key updates
        unfinished = self.unfinished
        self.unfinished = unfinished or self._peer_closed or self._failure is not None
        if filled:
            plain: Any = self._buffers.plain
            self._protocol.data_received(bytes(plain[:filled]))
        if self._failure is not None:
            self._lower.close()
        elif self._peer_closed:
            self._ended()
        elif unfinished:
            self._no_data()

    def _break(self, error: ssl.SSLError) -> None:
        self._failure = error.with_traceback(None)
        self._lower.abort()
