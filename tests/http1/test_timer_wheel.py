import asyncio
from typing import Any

from proxy.http1.timer_wheel import RESOLUTION, TimerWheel
from tests.upstream.support import eventually


async def test_each_is_called_once_and_not_before_its_time() -> None:
    """Whatever the order in which they were set: the loop's one timer goes to the earliest."""
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    called: list[tuple[float, float]] = []
    begin = loop.time()
    for seconds in (0.35, 0.05, 0.35, 0.2):
        wheel.call_later(seconds, lambda seconds=seconds: called.append((seconds, loop.time() - begin)))  # type: ignore[misc]
    await eventually(lambda: len(called) == 4)
    await asyncio.sleep(2 * RESOLUTION)
    assert [seconds for seconds, _ in called] == [0.05, 0.2, 0.35, 0.35]
    assert all(after >= seconds - 0.002 for seconds, after in called)  # the loop's clock counts milliseconds
    assert repr(wheel) == "<TimerWheel 0 timers>"


async def test_a_cancelled_one_is_not_called_even_by_one_of_the_same_tick() -> None:
    """Cancelling leaves nothing that refers to the callback."""
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    called: list[str] = []

    def cancel_second() -> None:
        called.append("first")
        second.cancel()

    first = wheel.call_later(0.05, cancel_second)
    second = wheel.call_later(0.05, lambda: called.append("second"))
    wheel.call_later(0.05, lambda: called.append("early")).cancel()
    assert repr(wheel) == "<TimerWheel 2 timers>"
    await eventually(lambda: bool(called))
    last = wheel.call_later(0.05, lambda: called.append("last"))
    await eventually(lambda: "last" in called)
    assert called == ["first", "last"]
    first.cancel()  # after it was called
    last.cancel()


async def test_one_that_raises_holds_up_no_other() -> None:
    """It is reported to the loop."""
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    wheel = TimerWheel(loop)
    called: list[int] = []
    wheel.call_later(0.05, lambda: called.append(1 // 0))
    wheel.call_later(0.05, lambda: called.append(2))
    await eventually(lambda: called == [2])
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
