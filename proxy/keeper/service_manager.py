"""Tells the service manager (systemd) how far this instance is: sd_notify(3), over a datagram socket."""

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping

from proxy.clock import Clock
from proxy.telemetry.health import ready, summary
from proxy.telemetry.status import Status, WorkerState
from proxy.text import printable

_LOOK_SECONDS = 1.0
# A line of `systemctl status`; systemd itself truncates none.
_MOST_STATUS = 300  # characters
_MICROSECONDS = 1_000_000


class ServiceManager:
    """Sends states to $NOTIFY_SOCKET; without that variable it sends nothing.

    *environ* also has WATCHDOG_USEC (an alive message is expected in each such interval) and WATCHDOG_PID (by whom).
    *status* and *addresses* are those of the instance, for the line that `systemctl status` shows.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        pid: int,
        status: Callable[[], Status],
        addresses: Callable[[], Iterable[str]],
        clock: Clock,
        write_line: Callable[[str], None],
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog_seconds(environ, pid=pid) if self._address else 0.0
        self._status = status
        self._addresses = addresses
        self._clock = clock
        self._write_line = write_line
        self._is_ready = False
        self._told = ""
        self._failed = False

    def ready(self) -> None:
        """Say that the start is complete."""
        self._is_ready = True
        self._tell(self._line(), "READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the block reads the configuration again, and after it that this is over, whatever came of it."""
        now = int(self._clock.monotonic() * _MICROSECONDS)
        self._tell("Reading the configuration again", "RELOADING=1", f"MONOTONIC_USEC={now}")
        was_ready, self._is_ready = self._is_ready, False
        yield
        if was_ready and not self._status().draining:
            self.ready()

    def stopping(self, line: str, *, most: float) -> None:
        """Say that the instance stops, which lasts at most *most* seconds even if the unit's TimeoutStopSec is less."""
        self._tell(line, "STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(most * _MICROSECONDS)}")

    async def follow(self) -> None:
        """Report the state of the instance in one line whenever that changes, until it stops."""
        while self._address:
            await self._clock.sleep(_LOOK_SECONDS)
            if self._is_ready and not self._status().draining and (line := self._line()) != self._told:
                self._tell(line)

    async def watch(self) -> None:
        """Send WATCHDOG=1 at half of the interval, while a worker works and the event loop runs this task.

        If no worker works, it looks again each second, so that a worker's replacement costs no interval.
        """
        while self._watchdog:
            await self._clock.sleep(self._watchdog / 2)
            while not has_working_worker(self._status()):
                await self._clock.sleep(_LOOK_SECONDS)
            self._send("WATCHDOG=1")

    def _line(self) -> str:
        return summary(ready(self._status()), title=f"serves callers on {', '.join(self._addresses())}")

    def _tell(self, line: str, *states: str) -> None:
        self._told = line
        self._send(*states, f"STATUS={printable(line, _MOST_STATUS)}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of a name in the abstract namespace (unix(7)).
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)  # noqa: FBT003  the socket module's own signature
                one.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._failed:
                self._write_line(f"the service manager can't be told {lines[0]}: {error.strerror or error}")
            self._failed = True
        else:
            self._failed = False

    def __repr__(self) -> str:
        return f"<ServiceManager at {self._address or 'no socket'}: {self._told}>"


def has_working_worker(status: Status) -> bool:
    """Return whether the watchdog may be told that all is well: a worker sends heartbeats, or the instance stops.

    Nothing else counts: a restart mends neither a token endpoint nor a disk. A stop has a time limit of its own.
    """
    working = {WorkerState.SERVING, WorkerState.DRAINING}
    return status.draining or any(worker.state in working for worker in status.workers)


def _watchdog_seconds(environ: Mapping[str, str], *, pid: int) -> float:
    """Return the interval of the watchdog, 0 if there is none or it is meant for another process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    with contextlib.suppress(ValueError):
        return max(int(environ.get("WATCHDOG_USEC", "0")), 0) / _MICROSECONDS
    return 0.0
