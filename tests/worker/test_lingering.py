from dataclasses import replace

from proxy.clock import SystemClock
from proxy.http1.timer import Timer
from proxy.worker.lingering import Lingering, LingeringClose
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts


def close(lingering: Lingering, timeouts: CallerTimeouts = CALLER_TIMEOUTS) -> LingeringClose:
    """Return the close of one connection."""
    return LingeringClose(lingering, timer=Timer(lambda: None, monotonic=SystemClock.monotonic), timeouts=timeouts)


async def test_who_was_silent_longest_makes_room() -> None:
    """Not who came first: that one may still be sending."""
    lingering = Lingering(2)
    first, second = close(lingering), close(lingering)
    first.received()
    third = close(lingering)

    assert [one.ended.done() for one in (first, second, third)] == [False, True, False]
    assert repr(lingering) == "<Lingering 2/2>"


async def test_who_has_left_takes_no_room() -> None:
    """Nor does it matter whether it was there, or what still comes of it."""
    lingering = Lingering(1)
    gone = close(lingering)
    gone.end()
    gone.end()
    gone.received()
    here = close(lingering)

    assert not here.ended.done()
    assert len(lingering) == 1


async def test_it_ends_by_itself() -> None:
    """Once nothing has come for the gap."""
    lingering = Lingering(1)
    await close(lingering, replace(CALLER_TIMEOUTS, linger_gap=0.01)).ended

    assert len(lingering) == 0
