"""One waiting coroutine and whoever wakes it."""

import asyncio


class Notifier:
    """Lets one coroutine await `wait()` until `wake`; a `wake` that nobody waits for is lost, so look first."""

    __slots__ = ("_future", "_waiter")

    def __init__(self) -> None:
        self._future = asyncio.get_running_loop().create_future
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Tell whether somebody waits."""
        return self._waiter is not None

    def wait(self) -> asyncio.Future[None]:
        """Return what the next `wake` ends; not a coroutine, which would cost one more frame per request."""
        waiter = self._waiter = self._future()
        return waiter

    def wake(self) -> None:
        """Wake whoever waits."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
