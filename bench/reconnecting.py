"""A closed loop of callers that open a connection for each request, over TLS or not, and close it after the answer.

Sockets and epoll without an event loop: 40 to 50 us of CPU a connection, so that candidates are the limit.
"""

import contextlib
import select
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bench.load import Load
from bench.machine import CLOCK
from bench.talk import WrongAnswer, head_of, trust

_PIECE = 65536
_STUCK_SECONDS = 20.0
# A closed connection keeps its port for a second on loopback (net.ipv4.tcp_tw_reuse), and there are 28,000 of them.
_MOST_CONNECTIONS = 40_000
_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Closes(Enum):
    """Who closes first. Old clients say `Connection: close` and wait; curl and most libraries say nothing and close."""

    SERVER = "Connection: close"
    CALLER = "caller closes"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent on each connection, and the body of the right answer."""

    data: bytes
    body: bytes


class Tls:
    """How callers over TLS connect: with *resuming*, from their second connection on with the session of the last."""

    def __init__(self, certificate: Path, *, resuming: bool) -> None:
        self._context = trust(certificate)
        self._resuming = resuming

    def wrapped(self, connection: socket.socket, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        """Return *connection* before its handshake."""
        return self._context.wrap_socket(
            connection, server_hostname="localhost", session=session, do_handshake_on_connect=False
        )

    def check(self, connection: ssl.SSLSocket, *, offered: bool) -> ssl.SSLSession | None:
        """Return the session for the next connection; raises WrongAnswer if that was *offered* and not resumed."""
        if offered and not connection.session_reused:
            raise WrongAnswer("a session was not resumed")
        return connection.session if self._resuming else None


class _Caller:
    """One caller: its present connection, and how far the exchange on it is."""

    __slots__ = ("_closes", "_exchange", "_got", "_offered", "_port", "_session", "_shaken", "_tls", "socket")

    def __init__(self, port: int, exchange: Exchange, *, closes: Closes, tls: Tls | None) -> None:
        self._port = port
        self._exchange = exchange
        self._closes = closes
        self._tls = tls
        self._session: ssl.SSLSession | None = None

    def open(self) -> int:
        """Connect, send what can be sent at once, and return the descriptor."""
        plain = socket.socket()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.connect(("127.0.0.1", self._port))  # the kernel completes it, even if the candidate is busy
        plain.setblocking(False)  # noqa: FBT003  the socket module's own signature
        self._got = b""
        self._offered = self._session is not None
        self._shaken = self._tls is None
        self.socket = plain if self._tls is None else self._tls.wrapped(plain, self._session)
        if self._tls is None:
            plain.send(self._exchange.data)
        else:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._shake()
        return self.socket.fileno()

    def _shake(self) -> None:
        """Go on with the handshake, and send the request when it is over."""
        connection = self.socket
        if not self._shaken and isinstance(connection, ssl.SSLSocket):
            connection.do_handshake()
            self._shaken = True
            connection.send(self._exchange.data)

    def advance(self, events: int) -> bool:
        """Go on after *events*; return whether the exchange is over. Raises WrongAnswer."""
        connection = self.socket
        try:
            self._shake()
            while data := connection.recv(_PIECE):
                self._got = self._got + data if self._got else data
                if self._answered() and (self._closes is Closes.CALLER or (events & _ENDED and self._tls is None)):
                    return self._close()
                if self._tls is None:
                    return False
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except ssl.SSLEOFError:  # closed without a close_notify, as HTTP servers do; the length was checked
            pass
        if not self._answered():
            raise WrongAnswer(f"the connection ended after {len(self._got)} bytes")
        return self._close()

    def _answered(self) -> bool:
        head = head_of(self._got)
        if head is None or len(self._got) < head.size + head.length:
            return False
        if head.status != 200 or self._got[head.size :] != self._exchange.body:
            raise WrongAnswer(f"under load: {self._got[:200]!r}")
        return True

    def _close(self) -> bool:
        if self._tls is not None and isinstance(self.socket, ssl.SSLSocket):
            self._session = self._tls.check(self.socket, offered=self._offered)
        self.socket.close()
        return True


def reconnecting(
    port: int, exchange: Exchange, *, closes: Closes, callers: int, seconds: float, tls: Tls | None = None
) -> Load:
    """Send *exchange* on one connection after the other, by *callers* at a time; raises WrongAnswer if one is wrong."""
    active: dict[int, _Caller] = {}
    begin = CLOCK.monotonic()
    started = 0
    with select.epoll() as poll:
        idle = [_Caller(port, exchange, closes=closes, tls=tls) for _ in range(callers)]
        try:
            while idle:
                for caller in idle:
                    number = caller.open()
                    active[number] = caller
                    poll.register(number, select.EPOLLIN | select.EPOLLRDHUP)
                started += len(idle)
                idle = _finished(poll, active)
                over = CLOCK.monotonic() - begin > seconds or started >= _MOST_CONNECTIONS
                while not idle or (over and active):
                    idle = _finished(poll, active)
                if over:
                    break
        finally:
            for caller in active.values():
                caller.socket.close()
    return Load(started, started / (CLOCK.monotonic() - begin))


def _finished(poll: select.epoll, active: dict[int, _Caller]) -> list[_Caller]:
    """Wait for events and handle them; return callers whose exchange is over, and which are no longer *active*."""
    ready = poll.poll(_STUCK_SECONDS)
    if not ready:
        raise WrongAnswer(f"no answer within {_STUCK_SECONDS:.0f} s under load")
    return [active.pop(number) for number, events in ready if active[number].advance(events)]
