"""A notification for one waiting coroutine."""

import asyncio


class Notifier:
    """Lets one coroutine await `wait()` until `wake`; a `wake` without a waiter is lost: check the condition first."""

    __slots__ = ("_future", "_waiter")

    def __init__(self) -> None:
        self._future = asyncio.get_running_loop().create_future
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Return whether a coroutine waits."""
        return self._waiter is not None

    def wait(self) -> asyncio.Future[None]:
        """Return a future that the next `wake` ends; a coroutine would cost one more frame per request."""
        waiter = self._waiter = self._future()
        return waiter

    def wake(self) -> None:
        """Wake the waiting coroutine."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
