import asyncio

import pytest

from proxy.http1.notifier import Notifier


async def test_wake_ends_the_wait() -> None:
    """Whoever waits goes on; a wake that nobody waits for is lost."""
    waker = Notifier()
    waker.wake()
    waiter = waker.wait()
    assert (waker.waiting, waiter.done()) == (True, False)
    waker.wake()
    waker.wake()
    await waiter
    assert not waker.waiting


async def test_waking_a_cancelled_wait_is_harmless() -> None:
    """The coroutine left; the wake finds nobody."""
    waker = Notifier()
    waiter = waker.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    waker.wake()
