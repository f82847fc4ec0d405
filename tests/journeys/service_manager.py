"""What systemd is to a service: a socket that it tells its state, and listening sockets that it gets."""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.journeys.process import Instance
from tests.journeys.waiting import until

_NOTHING: Mapping[str, str] = {}
# Puts the descriptors argv[2:] where systemd puts them, from 3 on, and becomes `payproxy serve`: LISTEN_PID is only
# known in the process itself.
_LAUNCHER = """\
import os, sys
passed = [os.dup(os.dup(int(number))) for number in sys.argv[2:]]
for place, descriptor in enumerate(passed, 3):
    os.dup2(descriptor, place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed))}
os.execv(sys.executable, [sys.executable, "-m", "proxy", "serve", "--config", sys.argv[1]])
"""


class Notified:
    """Gets what a service says by sd_notify(3)."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0)
        self._messages: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return all that was said so far."""
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self._messages
            self._messages.append(dict(line.split("=", 1) for line in text.split("\n")))

    async def told(self, state: str, *, after: int = 0) -> dict[str, str]:
        """Return the first message with *state*, skipping *after* messages, when it has come."""
        return await until(
            lambda: next((one for one in self.messages[after:] if state in one), None),
            otherwise=f"{state} was not told, but {self.messages}",
        )


async def activated(
    directory: Path, configuration: Path, sockets: Sequence[socket.socket], *, env: Mapping[str, str] = _NOTHING
) -> Instance:
    """Start `payproxy serve` with *sockets* passed to it; the caller ends it."""
    numbers = [one.fileno() for one in sockets]
    arguments = ["-c", _LAUNCHER, str(configuration), *map(str, numbers)]
    return await Instance.run(directory, *arguments, env=env, pass_fds=numbers)


def environment(pid: int) -> bytes:
    """Return the environment with which *pid* was started."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def listening(path: str = "") -> socket.socket:
    """Return a socket that listens at a free port of 127.0.0.1 (or at *path*), as a socket unit's does."""
    one = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    one.bind(path or ("127.0.0.1", 0))
    one.listen(4096)
    return one
