"""Ports of loopback: for servers that are started again on the port that they had, and those of the pages."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# Below the range from which Linux takes the ports of outgoing connections: one that is free now stays free, apart from
# other servers. Each process of a run has a part of its own, else it takes the port of a server that another has ended
# to start it again.
_FIRST, _LAST = 12_000, 32_000
_PARTS = 8
_STEP = 101


class _Ports:
    def __init__(self) -> None:
        size = (_LAST - _FIRST) // _PARTS
        begin = _FIRST + size * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PARTS)
        self._part = range(begin, begin + size)
        self._next = os.getpid() * _STEP

    def take(self) -> int:
        """Return a port that nobody listens on, and that was not returned before."""
        for _ in self._part:
            self._next += 1
            port = self._part[self._next % len(self._part)]
            if _is_free(port):
                return port
        raise AssertionError("no port is free")


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


lasting_port = _Ports().take


@contextmanager
def ports_of_the_pages() -> Iterator[None]:
    """Have 8080 and 8090, which the pages name and the demo prefers, for the block, alone among the tests."""
    with (Path(tempfile.gettempdir()) / "payproxy-test-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
