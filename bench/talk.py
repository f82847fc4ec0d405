"""HTTP over plain sockets, as little of it as a benchmark's caller needs: answers have a Content-Length."""

import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import CLOCK, Unfit, pause

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_PIECE = 262144
_START_SECONDS = 30.0
_TIMEOUT_SECONDS = 60.0


class WrongAnswer(Exception):
    """A candidate did not answer what the bank said; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer: *size* in bytes, *length* of the body behind it."""

    status: int
    size: int
    length: int


def request(
    method: str, path: str, *, body: bytes = b"", length: int | None = None, fields: Sequence[str] = ()
) -> bytes:
    """Return a request as bytes; *length* announces a body that is sent apart."""
    size = len(body) if length is None else length
    framing = [f"Content-Length: {size}", "Content-Type: application/json"] if size else []
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*", *framing, *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def head_of(data: bytes | bytearray) -> Head | None:
    """Return the head at the beginning of *data*, None while it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = _LENGTH.search(data, 0, end + 2)
    return Head(int(data[9:12]), end + 4, int(found[1]) if found else 0)


def connected(port: int) -> socket.socket:
    """Return a new connection to *port* on loopback."""
    return socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS)


def trust(certificate: Path) -> ssl.SSLContext:
    """Return how a caller over TLS connects: by TLS 1.3, of which resuming a session costs more than in TLS 1.2."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def ask(connection: socket.socket, data: bytes) -> tuple[int, bytes]:
    """Send *data* and return status and body of the answer."""
    connection.sendall(data)
    return answer(connection)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return status and body of the next answer on *connection*."""
    body = bytearray()
    status, _ = read(connection, body.extend)
    return status, bytes(body)


def read(connection: socket.socket, take: Callable[[memoryview], object]) -> tuple[int, int]:
    """Read one answer, its body piece by piece into *take*; return its status and the size of its body."""
    begun = bytearray()
    while (head := head_of(begun)) is None:
        data = connection.recv(_PIECE)
        if not data:
            raise WrongAnswer("the connection ended before an answer's head")
        begun += data
    got = len(begun) - head.size
    if got:
        take(memoryview(bytes(begun))[head.size :])
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    while got < head.length:
        size = connection.recv_into(buffer)
        if not size:
            raise WrongAnswer(f"the body ended after {got} of {head.length} bytes")
        take(view[:size])
        got += size
    return head.status, got


def free_port() -> int:
    """Return a port of loopback on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_open(port: int, process: subprocess.Popen[bytes], *, log: Path) -> None:
    """Return once *process* listens on *port*; raises Unfit with the end of *log* if it does not."""
    end = CLOCK.monotonic() + _START_SECONDS
    while True:
        try:
            connected(port).close()
        except OSError:
            if CLOCK.monotonic() > end or process.poll() is not None:
                raise Unfit(f"nothing listens on {port}: {log.read_text()[-2000:]}") from None
            pause(0.05)
        else:
            return
