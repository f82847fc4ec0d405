"""A child process that is given some bytes and answers with few, within a bounded time; blocking, for use in a thread.

Its stderr goes nowhere: it might quote a secret.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.clock import Clock

MAX_ANSWER_BYTES = 65536
# A killed child ends at once, unless the kernel waits for a device: then its entry is left to the end of our process.
_END_SECONDS = 1.0


class ChildFailed(Exception):
    """The child did not answer; the message says how: "did not answer within 8 s"."""


class ChildProcess:
    """A child with the *arguments*, in a process group of its own; `end` ends the whole group.

    *environment* is all that it inherits. Whoever may have to end it while it is being started has it before `start`.
    """

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], clock: Clock) -> None:
        self._arguments = arguments
        self._environment = environment
        self._clock = clock
        self._started: subprocess.Popen[bytes] | None = None
        self._killed = False

    def start(self) -> None:
        """Start it; raises OSError if that is not possible, and what the handler of a signal raises after it."""
        with signals_deferred():
            self._started = subprocess.Popen(  # noqa: S603 - no shell; the program is checked by whoever names it
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=self._environment,
                bufsize=0,
                start_new_session=True,
            )
        if self._killed:
            self.kill()

    @property
    def _process(self) -> "subprocess.Popen[bytes]":
        assert self._started is not None  # noqa: S101 - the caller has started it
        return self._started

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    def line(self, request: bytes, *, deadline: float) -> bytes:
        """Write the line *request* and return the line that it answers until *deadline*; raise ChildFailed."""
        self._write(request)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self._piece(answer, deadline) or self._ended()
        return answer

    def rest(self, data: bytes, *, deadline: float) -> bytes:
        """Write *data* and the end of input; return all until the child ends with exit code 0; raise ChildFailed."""
        self._write(data)
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.close()
        answer = b""
        while piece := self._piece(answer, deadline):
            answer += piece
        try:
            code = self._process.wait(max(0.0, deadline - self._clock.monotonic()))
        except subprocess.TimeoutExpired:
            raise ChildFailed("closed its output but did not end in time") from None
        if code:
            raise ChildFailed(_exit(code))
        return answer

    def end(self) -> None:
        """End the child and all that it has started."""
        self.kill()
        if self._started is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def kill(self) -> None:
        """Kill the child and all that it has started; whoever waits for it, in another thread, gets ChildFailed.

        One that is being started is killed as soon as it is.
        """
        self._killed = True
        process = self._started
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it may know its answer before it has read all, or be dead
            # Far less than a pipe holds (64 KiB), so this can't block.
            self._process.stdin.write(data)

    def _piece(self, answer: bytes, deadline: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        left = deadline - self._clock.monotonic()
        descriptor = self._process.stdout.fileno()
        poll = select.poll()  # select(2) refuses descriptors above 1024
        poll.register(descriptor, select.POLLIN)
        if left <= 0 or not poll.poll(left * 1000):
            raise ChildFailed("did not answer in time")
        piece = os.read(descriptor, MAX_ANSWER_BYTES)
        if len(answer) + len(piece) > MAX_ANSWER_BYTES:
            raise ChildFailed(f"answered with more than {MAX_ANSWER_BYTES} bytes")
        return piece

    def _ended(self) -> bytes:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            raise ChildFailed("closed its output") from None
        raise ChildFailed(_exit(code))


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: what their handlers raise in `Popen` would lose the child that it has made.

    In the main thread only, where Python runs handlers. Not by a mask, which the child would inherit.
    """
    arrived: list[int] = []
    handlers: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    handlers[number] = signal.signal(number, lambda got, _: arrived.append(got))
        yield
    finally:
        for deferred, handler in handlers.items():
            signal.signal(deferred, handler)
        for got in arrived:
            signal.raise_signal(got)


def _exit(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
