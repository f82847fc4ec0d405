"""Waiting for conditions, never for a guess of how long something takes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Result = TypeVar("Result")

# Other tests share the cores: a condition may take long to come true, and is looked at often.
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.02


@overload
async def until(what: Callable[[], Awaitable[Result]], *, otherwise: str, within: float = ...) -> Result: ...
@overload
async def until(what: Callable[[], Result | None], *, otherwise: str, within: float = ...) -> Result: ...
async def until(
    what: Callable[[], Awaitable[Result] | Result | None], *, otherwise: str, within: float = PATIENCE_SECONDS
) -> Result | None:
    """Return the first true value of *what*; AssertionError *otherwise*, after *within* seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        found = what()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if loop.time() > end:
            raise AssertionError(f"{otherwise} within {within:.0f} s")
        await asyncio.sleep(_LOOK_SECONDS)
