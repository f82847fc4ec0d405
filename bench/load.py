"""Load: a closed loop by wrk, which costs little and counts exactly; an open loop at a fixed rate by ourselves."""

import re
import select
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.bank import PAYMENT, PAYMENT_PATH, SMALL_PATH
from bench.machine import CLOCK, Unfit, program
from bench.talk import WrongAnswer, connected, head_of

_DONE = re.compile(r"(\d+) requests in ")
_RATE = re.compile(r"Requests/sec: +([0-9.]+)")
_WRONG = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKET_ERRORS = re.compile(r"Socket errors: .*")
_POST_SCRIPT = """\
wrk.method = "POST"
wrk.body = "{body}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Idempotency-Key"] = "bench-0001"
"""
# What a loop on a free core may be late; a request that is later is measured from when it was due.
_PUNCTUAL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop got done."""

    requests: int
    per_second: float


class ClosedLoop:
    """Callers that send the next request as soon as they have the answer to the last."""

    def __init__(self, directory: Path) -> None:
        self._wrk = program("wrk", package="wrk")
        self._script = directory / "post.lua"
        self._script.write_text(_POST_SCRIPT.format(body=PAYMENT.decode().replace('"', '\\"')))

    def run(self, port: int, *, method: str, connections: int, seconds: int, scheme: str = "http") -> Load:
        """Load *port* for *seconds* on connections that are kept alive; raises WrongAnswer if one was no success."""
        script = ["-s", str(self._script)] if method == "POST" else []
        path = PAYMENT_PATH if method == "POST" else SMALL_PATH
        done = subprocess.run(
            [self._wrk, "-t1", f"-c{connections}", f"-d{seconds}s", *script, f"{scheme}://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fault in (_WRONG.search(done), _SOCKET_ERRORS.search(done)):
            if fault is not None:
                raise WrongAnswer(f"under load: {fault[0]}")
        count, rate = _DONE.search(done), _RATE.search(done)
        if count is None or rate is None:
            raise Unfit(f"wrk said: {done}")
        return Load(int(count[1]), float(rate[1]))


class _Caller:
    """One connection of the open loop."""

    __slots__ = ("_got", "since", "socket")

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(0)
        self.socket = connection
        self.since = 0.0
        self._got = bytearray()

    def answered(self) -> bool:
        """Read what is there and return whether an answer is whole; raises WrongAnswer if it is not the one."""
        try:
            data = self.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise WrongAnswer("a connection ended under load")
        self._got += data
        head = head_of(self._got)
        if head is None or len(self._got) < head.size + head.length:
            return False
        self._got.clear()
        if head.status != 200:
            raise WrongAnswer(f"status {head.status} under load")
        return True


def open_loop(
    connect: Callable[[], socket.socket], data: bytes, *, rate: int, seconds: float, connections: int
) -> list[float]:
    """Send *data* *rate* times a second whether or not answers come; return the seconds that each answer took."""
    callers = {}
    for _ in range(connections):
        caller = _Caller(connect())
        callers[caller.socket] = caller
    free = deque(callers.values())
    busy: set[socket.socket] = set()
    took: list[float] = []
    begin = CLOCK.monotonic()
    count = int(rate * seconds)
    sent = 0
    try:
        while len(took) < count:
            now = CLOCK.monotonic()
            due = begin + sent / rate
            if sent < count and due <= now and free:
                caller = free.popleft()
                caller.since = now if now - due < _PUNCTUAL_SECONDS else due
                busy.add(caller.socket)
                caller.socket.send(data)
                sent += 1
                continue
            wait = max(0.0, due - now) if sent < count and free else 1.0
            readable, _, _ = select.select(busy, (), (), wait)
            now = CLOCK.monotonic()
            for connection in readable:
                caller = callers[connection]
                if caller.answered():
                    took.append(now - caller.since)
                    busy.remove(connection)
                    free.append(caller)
    finally:
        for connection in callers:
            connection.close()
    return took


def to_proxy(port: int) -> Callable[[], socket.socket]:
    """Return how the open loop connects to a candidate."""
    return lambda: connected(port)


def to_bank(port: int, certificate: Path) -> Callable[[], socket.socket]:
    """Return how the open loop connects to the bank itself, over TLS."""
    context = ssl.create_default_context(cafile=str(certificate))
    return lambda: context.wrap_socket(connected(port), server_hostname="localhost")
