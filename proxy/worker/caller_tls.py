"""TLS towards callers: the server's side of `http1.tls_transport`.

A connection in the handshake is a stranger's: it has one deadline, counts against the room for connections, and has no
`CallerConnection` yet.
"""

import asyncio
import ssl
from typing import Any, Final

from proxy.clock import Clock
from proxy.http1.timer_wheel import WheelHandle
from proxy.http1.tls_transport import PIECE_BYTES, TlsBuffers, TlsTransport
from proxy.worker.listener import CallerServer

# Of a caller's connection: there is hardly one in practice, and OpenSSL takes 15 us for a key update of 27 bytes.
MOST_DATALESS: Final = 100
# OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, and its name of the error.
_HAS_EXPIRED: Final = 10
_NOT_SHOWN: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


class SessionExpired(Exception):
    """The client certificate of a resumed session has expired; no alert says so to the caller."""


def refusal(error: Exception) -> str:
    """Return why a handshake that ended with *error* refused the caller's certificate, "" if it was something else."""
    if isinstance(error, SessionExpired):
        return "expired"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "expired" if error.verify_code == _HAS_EXPIRED else "not_trusted"
    return "missing" if isinstance(error, ssl.SSLError) and error.reason == _NOT_SHOWN else ""


class TlsCallerServer:
    """Creates the TLS side of connections; each is one of *server*'s once its handshake with *context* is over."""

    def __init__(self, server: CallerServer, context: ssl.SSLContext, *, clock: Clock) -> None:
        self.server = server
        self.context = context
        self.clock = clock
        self.buffers = TlsBuffers()

    def __call__(self) -> "CallerTls":
        """Return the protocol object of a new connection."""
        return CallerTls(self)

    def __repr__(self) -> str:
        return f"<TlsCallerServer {self.server.handshakes} handshakes>"


class CallerTls(TlsTransport):
    """The protocol of an accepted socket, and the transport of a `CallerConnection`.

    A handshake that fails leaves no trace but the alert that the peer gets, since strangers fill no log; one that fails
    for the caller's certificate is counted.
    """

    __slots__ = ("_clock", "_deadline", "_server", "_shut")

    def __init__(self, entrance: TlsCallerServer) -> None:
        super().__init__(entrance.context, entrance.buffers, server_side=True, most_dataless=MOST_DATALESS)
        self._server = entrance.server
        self._clock = entrance.clock
        self._deadline: WheelHandle | None = None  # of the handshake
        self._shut = False  # close_notify was sent, and nothing may follow

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the handshake, which no byte moves."""
        super().connection_made(transport)
        server = self._server
        server.handshakes += 1
        self._deadline = server.timers.call_later(server.timeouts.handshake, self.abort)

    def eof_received(self) -> None:
        """Close: for a proxy, a caller that sends no more has left (as over plain TCP)."""
        if self._open:
            self._ended()

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt *data* and send it, with the session tickets before the first."""
        if len(data) <= PIECE_BYTES:
            self.writelines((data,))
        else:
            self._write_in_pieces(memoryview(data))

    def _write_in_pieces(self, data: Any) -> None:
        encrypted = []
        try:
            for start in range(0, len(data), PIECE_BYTES):
                self._write(data[start : start + PIECE_BYTES])
                encrypted.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._break(error)
            return
        if not self._lower.is_closing():
            self._lower.write(b"".join(encrypted))

    def flush(self) -> None:
        """Send the encrypted bytes; drop them after our close_notify (answers to key updates)."""
        if self._shut:
            self._outgoing.read()
        else:
            super().flush()

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes, without session tickets."""
        return self._lower.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the peer's verified certificate as `peercert`, None without one; else what the socket's has."""
        return self._tls.getpeercert() if name == "peercert" else super().get_extra_info(name, default)

    def can_write_eof(self) -> bool:
        """Return True: a close_notify ends one direction (RFC 8446 6.1)."""
        return True

    def write_eof(self) -> None:
        """Send close_notify; what the caller still sends is received."""
        if not self._shut:
            self._notify_close()
            self._lower.write_eof()

    def _notify_close(self) -> None:
        if not self._shut:
            super()._notify_close()
            self._shut = True

    def _secured(self) -> None:
        """Hand over to a `CallerConnection`; session tickets wait for the first answer, which saves one send."""
        if self._tls.session_reused and self._is_certificate_expired():
            self._failure = SessionExpired("the certificate of the resumed session has expired")
            self._lower.close()
            return
        self._handshake_over()
        self._open = True
        if self._tls.version() != "TLSv1.3":  # the peer waits for our Finished
            self.flush()
        self._protocol = self._server()
        self._protocol.connection_made(self)

    def _is_certificate_expired(self) -> bool:
        """Return whether the client certificate has expired: OpenSSL looks when a session begins, not at resumption."""
        certificate = self._tls.getpeercert()
        return certificate is not None and ssl.cert_time_to_seconds(str(certificate["notAfter"])) < self._clock.now()

    def _not_secured(self, error: Exception) -> None:
        self._handshake_over()
        if reason := refusal(error):
            self._server.certificate_refused(reason)

    def _handshake_over(self) -> None:
        self._server.handshakes -= 1
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _no_data(self) -> None:
        """Do nothing: a record in parts is bounded by the deadline that runs anyway."""

    def _ended(self) -> None:
        self._protocol.eof_received()
        self.close()
