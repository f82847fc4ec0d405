import asyncio

from proxy.clock import SystemClock
from proxy.http1.timer import NEVER, Timer
from tests.upstream.support import eventually

CLOCK = SystemClock()


async def test_it_expires_at_its_time_and_only_once() -> None:
    """Not before, and not again."""
    expired: list[float] = []
    timer = Timer(lambda: expired.append(CLOCK.monotonic()), monotonic=CLOCK.monotonic)
    due = CLOCK.monotonic() + 0.05
    timer.set(due)
    await eventually(lambda: bool(expired))
    assert expired[0] >= due
    await asyncio.sleep(0.06)
    assert len(expired) == 1


async def test_moving_it_to_later_keeps_the_handle_and_is_heeded() -> None:
    """The cheap case: the old handle fires, looks and goes on waiting."""
    expired: list[float] = []
    timer = Timer(lambda: expired.append(CLOCK.monotonic()), monotonic=CLOCK.monotonic)
    timer.set(CLOCK.monotonic() + 0.03)
    handle = timer._handle
    later = CLOCK.monotonic() + 0.1
    timer.set(later)
    assert timer._handle is handle
    await eventually(lambda: bool(expired))
    assert expired[0] >= later


async def test_moving_it_to_earlier_is_heeded() -> None:
    """A shorter time replaces the handle."""
    expired: list[float] = []
    timer = Timer(lambda: expired.append(CLOCK.monotonic()), monotonic=CLOCK.monotonic)
    timer.set(CLOCK.monotonic() + 30)
    timer.set(CLOCK.monotonic() + 0.02)
    await eventually(lambda: bool(expired), within=25)


async def test_it_can_be_disarmed_and_cancelled() -> None:
    """NEVER leaves the handle to find nothing to do; cancel takes it away."""
    expired: list[float] = []
    timer = Timer(lambda: expired.append(CLOCK.monotonic()), monotonic=CLOCK.monotonic)
    timer.set(CLOCK.monotonic() + 0.02)
    timer.expires = NEVER
    await eventually(lambda: timer._handle is None)
    timer.set(CLOCK.monotonic() + 0.02)
    timer.cancel()
    await asyncio.sleep(0.05)
    assert expired == []
