import asyncio
import gc
import types
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from proxy.http1.inline_future import END, InlineFuture, InlineRun


class Broken(Exception):
    """What ends a reply; a class of its own, so that it can be referred to weakly."""


class Waiting:
    """A coroutine that waits for *reply*, what it got, and what `ended` was told."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self.got: list[object] = []
        self.ended: list[BaseException | None] = []
        self.drive = driven(self.wait(), self.ended.append)

    async def wait(self) -> None:
        """Wait, once."""
        try:
            self.got.append(await self._reply)
        except BaseException as error:
            self.got.append(type(error))
            raise


def driven(coroutine: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]) -> InlineRun:
    """Return a drive of *coroutine* that has begun."""
    drive = InlineRun(coroutine, loop=asyncio.get_running_loop(), ended=ended)
    drive.resume()
    return drive


def unanswered() -> InlineFuture[str]:
    """Return a reply that has not ended."""
    return InlineFuture[str](asyncio.get_running_loop())


async def turn() -> None:
    """Let the loop have one turn."""
    await asyncio.sleep(0)


async def test_who_waits_goes_on_within_set_result() -> None:
    """Before it returns, to the coroutine's end: nothing is left for a turn of the loop."""
    reply = unanswered()
    waiting = Waiting(reply)
    assert (waiting.got, waiting.ended, reply.done()) == ([], [], False)
    reply.set_result("it")
    assert (waiting.got, waiting.ended, reply.done()) == (["it"], [None], True)


async def test_a_coroutine_that_yields_the_end_has_ended() -> None:
    """As if it had returned; nothing of it is left to be closed later."""
    reply = unanswered()
    told: list[BaseException | None] = []
    freed: list[str] = []

    @types.coroutine
    def end() -> Generator[object, None, None]:
        yield END

    async def wait() -> None:
        held = Held()
        weakref.finalize(held, freed.append, "it")
        await reply
        await end()

    run = driven(wait(), told.append)
    assert not told
    reply.set_result("it")
    assert told == [None]
    del run
    assert freed == ["it"]


class Held:
    """Something that a coroutine holds."""


async def test_an_exception_comes_a_turn_later() -> None:
    """Whoever finds it out is not ready for the consequences; `ended` is told what the coroutine let pass."""
    reply, error = unanswered(), Broken()
    waiting = Waiting(reply)
    reply.set_exception(error)
    assert (waiting.got, reply.done()) == ([], True)
    await turn()
    assert (waiting.got, waiting.ended) == ([Broken], [error])


async def test_a_cancellation_comes_a_turn_later() -> None:
    """Of the reply itself, and of the drive that waits for it."""
    reply, driving = unanswered(), Waiting(unanswered())
    waiting = Waiting(reply)
    assert reply.cancel()
    driving.drive.cancel()
    assert (waiting.got, driving.got) == ([], [])
    await turn()
    assert (waiting.got, driving.got) == ([asyncio.CancelledError], [asyncio.CancelledError])
    assert isinstance(waiting.ended[0], asyncio.CancelledError)


async def test_it_ends_once() -> None:
    """What comes after the first is not heard, and a cancellation says that it was too late."""
    reply = unanswered()
    waiting = Waiting(reply)
    reply.set_result("first")
    reply.set_result("second")
    reply.set_exception(Broken())
    assert not reply.cancel()
    await turn()
    assert (waiting.got, waiting.ended) == (["first"], [None])
    assert reply.result() == "first"


async def test_a_reply_that_has_ended_is_not_waited_for() -> None:
    """A result or an exception that was there first is taken without a turn."""
    good, bad = unanswered(), unanswered()
    good.set_result("it")
    bad.set_exception(Broken())
    assert (Waiting(good).got, Waiting(bad).got) == (["it"], [Broken])


async def test_a_task_may_await_it() -> None:
    """As it does a future of asyncio: it gets result and exception, and its cancellation is the reply's."""
    loop = asyncio.get_running_loop()

    async def wait(reply: InlineFuture[str]) -> str:
        return await reply

    replies = [unanswered() for _ in range(3)]
    good, bad, left = [loop.create_task(wait(reply)) for reply in replies]
    await turn()
    replies[0].set_result("it")
    replies[1].set_exception(Broken())
    left.cancel()
    assert await good == "it"
    with pytest.raises(Broken):
        await bad
    with pytest.raises(asyncio.CancelledError):
        await left
    assert replies[2].done()


async def test_a_drive_waits_for_futures_and_turns_too() -> None:
    """sleep(0) is the loop's next turn, and a future of asyncio comes when its callbacks do."""
    seen: list[object] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def steps() -> None:
        await asyncio.sleep(0)
        seen.append("a turn")
        seen.append(await future)

    driven(steps(), seen.append)
    assert seen == []
    await turn()
    assert seen == ["a turn"]
    future.set_result("it")
    assert seen == ["a turn"]
    await turn()
    assert seen == ["a turn", "it", None]


async def test_a_coroutine_that_raises_at_once_tells() -> None:
    """As a task tells its waiter, it is told to `ended`, and not raised by `resume`."""
    told: list[BaseException | None] = []

    async def breaks() -> None:
        raise Broken

    driven(breaks(), told.append)
    assert [type(error) for error in told] == [Broken]


@pytest.mark.parametrize("of", ["reply", "future", "turn"])
async def test_a_cancellation_of_what_has_ended_comes_at_the_next_resume(of: str) -> None:
    """What is waited for is over, and the coroutine has not heard yet: the cancellation is not lost between."""
    if of == "reply":
        reply = unanswered()
        waiting = Waiting(reply)
        reply.set_exception(Broken())
    elif of == "future":
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = Waiting(future)
        future.set_result("it")
    else:
        waiting = Waiting(asyncio.sleep(0))
    waiting.drive.cancel()
    assert waiting.got == []
    await turn()
    assert waiting.got == [asyncio.CancelledError]
    assert isinstance(waiting.ended[0], asyncio.CancelledError)


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Let nothing be freed but what nobody refers to."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("how", ["driven", "in a task", "there first"])
async def test_an_error_leaves_no_cycle(how: str) -> None:
    """Traceback, frames and reply are freed with the last reference, as a request that failed must be."""
    reply, error = unanswered(), Broken()
    gone = weakref.ref(error)

    async def wait() -> None:
        try:
            await reply
        except Broken:
            return

    told: list[BaseException | None] = []
    if how == "there first":
        reply.set_exception(error)
    task = asyncio.get_running_loop().create_task(wait()) if how == "in a task" else None
    drive = driven(wait(), told.append) if task is None else None
    await turn()
    reply.set_exception(error)
    del error
    for _ in range(3):
        await turn()
    assert told == [None] if task is None else task.done()
    del drive, task
    assert gone() is None
