"""Load: a closed loop by wrk, which costs little and counts exactly; an open loop at a fixed rate by ourselves."""

import re
import select
import signal
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from bench.bank import PAYMENT, PAYMENT_PATH, SMALL_PATH, Bank
from bench.machine import CLOCK, Unfit, program
from bench.talk import WrongAnswer, connected, head_of, trust

_SUMMARY = re.compile(r"summary: (\d+) requests, (\d+) bytes, (\d+) us, (\d+) socket errors, (\d+) not 2xx")
_DID_SOMETHING = re.compile(r"summary: [1-9]")
# Called once, at the end: with neither request() nor response() wrk sends the same bytes without asking Lua.
_SCRIPT = """\
done = function(summary)
  local errors = summary.errors
  io.write(string.format("summary: %d requests, %d bytes, %d us, %d socket errors, %d not 2xx\\n",
    summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
"""
_POST_SCRIPT = """\
wrk.method = "POST"
wrk.body = "{body}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Idempotency-Key"] = "bench-0001"
"""
# On a busy machine a candidate may not run for seconds; wrk would count answers after 2 s as errors.
_PATIENCE = "30s"
_STUCK_SECONDS = 60.0
# More than any candidate's head; an answer of another size is not the bank's.
_HEAD_BYTES = 2000
# What a loop on a free core may be late; a request that is later is measured from when it was due.
_PUNCTUAL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop got done."""

    requests: int
    per_second: float


class ClosedLoop:
    """Callers that send the next request as soon as they have the answer to the last."""

    def __init__(self, directory: Path, bank: Bank) -> None:
        self._wrk = program("wrk", package="wrk")
        self._bodies = {"GET": bank.small, "POST": bank.payment}
        self._scripts = {method: directory / f"{method}.lua" for method in self._bodies}
        self._scripts["GET"].write_text(_SCRIPT)
        self._scripts["POST"].write_text(_POST_SCRIPT.format(body=PAYMENT.decode().replace('"', '\\"')) + _SCRIPT)

    def run(self, port: int, seconds: float, *, method: str, connections: int, scheme: str = "http") -> Load:
        """Load *port* for *seconds* on connections that are kept alive; raises WrongAnswer if one was no success."""
        path = PAYMENT_PATH if method == "POST" else SMALL_PATH
        command = [self._wrk, "-t1", f"-c{connections}", "--timeout", _PATIENCE, "-s", str(self._scripts[method])]
        url = f"{scheme}://127.0.0.1:{port}{path}"
        whole = ceil(seconds)
        said = _until([*command, f"-d{whole + 1}s", url], seconds) if whole != seconds else ""
        if not _DID_SOMETHING.search(said):
            done = subprocess.run([*command, f"-d{whole}s", url], capture_output=True, text=True, check=True)
            said = done.stdout
        return counted(said, self._bodies[method])


def _until(command: Sequence[str], seconds: float) -> str:
    """Return what wrk says if it is interrupted after *seconds*: its own clock knows whole ones only.

    On a busy machine it may not have begun by then, and says nothing.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        try:
            return wrk.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            wrk.send_signal(signal.SIGINT)
            return wrk.communicate()[0]


def counted(said: str, body: bytes) -> Load:
    """Return what wrk *said* at its end; raises WrongAnswer for errors and for answers too short or long for *body*."""
    found = _SUMMARY.search(said)
    if found is None:
        raise Unfit(f"wrk said: {said}")
    requests, size, microseconds, socket_errors, refused = map(int, found.groups())
    if socket_errors or refused or not requests:
        raise WrongAnswer(f"under load: {found[0]}")
    if not len(body) <= size / requests <= len(body) + _HEAD_BYTES:
        raise WrongAnswer(f"under load: answers of {size / requests:.0f} bytes, but the bank's body has {len(body)}")
    return Load(requests, requests / microseconds * 1e6)


class _Caller:
    """One connection of the open loop."""

    __slots__ = ("_body", "_got", "since", "socket")

    def __init__(self, connection: socket.socket, body: bytes) -> None:
        self._body = body
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
        if head.status != 200 or self._got[head.size :] != self._body:
            raise WrongAnswer(f"under load: {bytes(self._got[:200])!r}")
        self._got.clear()
        return True


def open_loop(
    connect: Callable[[], socket.socket],
    data: bytes,
    *,
    body: bytes,
    rate: int,
    seconds: float,
    connections: int,
) -> list[float]:
    """Send *data* *rate* times a second whether or not answers come; return the seconds that each answer took.

    Raises WrongAnswer for an answer whose body is not *body*, and if answers do not come at all.
    """
    callers = {}
    for _ in range(connections):
        caller = _Caller(connect(), body)
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
            if now - begin > seconds + _STUCK_SECONDS:
                raise WrongAnswer(f"{count - len(took)} of {count} requests have no answer after {now - begin:.0f} s")
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


def by_tcp(port: int) -> Callable[[], socket.socket]:
    """Return how the open loop connects to *port* over plain TCP."""
    return lambda: connected(port)


def by_tls(port: int, certificate: Path) -> Callable[[], socket.socket]:
    """Return how the open loop connects to *port* over TLS."""
    context = trust(certificate)
    return lambda: context.wrap_socket(connected(port), server_hostname="localhost")
