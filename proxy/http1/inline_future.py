"""A future that resumes its coroutine immediately, and the runner of such a coroutine.

Each time a task is woken by a future costs a handle, a context switch and a loop iteration. A request is woken twice,
by its head and by the bank's response; both times the code that wakes it has nothing else left to do. Measured: 3 to 5
of some 100 us of CPU a request with uvloop, 12 with asyncio's loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")


# A coroutine that yields this to its `InlineRun` has ended, for a tenth of what its return costs: StopIteration with a
# traceback, which compiled code builds.
END: Final = object()


class InlineFuture(Generic[Value]):
    """A future that one coroutine awaits once; if an `InlineRun` runs it, `set_result` resumes it immediately.

    Exceptions and cancellation are delivered in the next loop iteration, because the code that sets them may be in the
    middle of changing the connection. A task may await it like an asyncio future.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_done", "_error", "_loop", "_run", "_value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._done = False
        self._value: Value | None = None
        self._error: BaseException | None = None
        self._run: InlineRun | None = None
        self._callback: Callable[..., object] | None = None
        self._context: Any = None

    def __await__(self) -> Generator["InlineFuture[Value]", None, Value]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def done(self) -> bool:
        """Return whether it is done."""
        return self._done

    def result(self) -> Value:
        """Return the result, or raise the exception."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback references this frame: keeping it would create a cycle
        value: Any = self._value
        found: Value = value
        return found

    def set_result(self, value: Value) -> None:
        """Set the result, and resume the waiting coroutine before this returns; do nothing if done."""
        if self._done:
            return
        self._done = True
        self._value = value
        run = self._run
        if run is not None:
            self._run = None
            run.resume()
        elif self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)

    def set_exception(self, error: BaseException) -> None:
        """Set the exception *error*; do nothing if done."""
        if self._done:
            return
        self._done = True
        self._error = error
        run = self._run
        if run is not None:
            self._run = None
            self._loop.call_soon(run.resume)
        elif self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)

    def cancel(self, msg: Any = None) -> bool:
        """Set CancelledError; return False if it was done already."""
        if self._done:
            return False
        self.set_exception(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    # The part of asyncio.Future's interface that a task uses.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def add_done_callback(self, callback: Callable[..., object], *, context: Any = None) -> None:
        """Call *callback* in the loop iteration after this future is done."""
        self._callback = callback
        self._context = context


class InlineRun:
    """Runs *coroutine* like a task, but starts and resumes it immediately; calls *ended* with its exception or None.

    There is no current task in it: code that needs one, e.g. `asyncio.timeout`, must run in a task of its own.
    """

    __slots__ = ("_awaited", "_cancelled", "_coroutine", "_ended", "_loop")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        *,
        loop: asyncio.AbstractEventLoop,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._ended = ended
        self._awaited: Any = None
        self._cancelled = False

    def resume(self, _: object = None) -> None:
        """Run the coroutine until it waits for something."""
        self._awaited = None
        try:
            if self._cancelled:
                self._cancelled = False
                awaited = self._coroutine.throw(asyncio.CancelledError())
            else:
                awaited = self._coroutine.send(None)
        except StopIteration:
            self._ended(None)
            return
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - passed to `ended`, as a task passes it to its awaiter
            self._ended(error)
            return
        if awaited is END:
            self._ended(None)
            return
        self._awaited = awaited
        if isinstance(awaited, InlineFuture):
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol between tasks and futures
            awaited._run = self  # noqa: SLF001 - resumed by its `set_result`
        elif awaited is None:
            self._loop.call_soon(self.resume)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001
            awaited.add_done_callback(self.resume)

    def cancel(self) -> None:
        """Cancel what the coroutine waits for."""
        if self._awaited is None or not self._awaited.cancel():
            self._cancelled = True
