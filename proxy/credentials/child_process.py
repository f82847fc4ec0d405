"""A child process that is given some bytes and answers with few, within a bounded time; blocking, for use in a thread.

Its stderr goes nowhere: it might quote a secret.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence

from proxy.clock import Clock

MAX_ANSWER_BYTES = 65536
# A killed child ends at once, unless the kernel waits for a device: then its entry is left to the end of our process.
_END_SECONDS = 1.0


class ChildFailed(Exception):
    """The child did not answer; the message says how: "did not answer within 8 s"."""


class ChildProcess:
    """A running child with the *arguments*, in a process group of its own; `end` ends the whole group.

    *environment* is all that it inherits. Raises OSError if it can't be started.
    """

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], clock: Clock) -> None:
        self._clock = clock
        self._process = subprocess.Popen(  # noqa: S603 - no shell; the program is checked by whoever names it
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            bufsize=0,
            start_new_session=True,
        )

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
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def kill(self) -> None:
        """Kill the child and all that it has started; whoever waits for it, in another thread, gets ChildFailed."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

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


def _exit(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
