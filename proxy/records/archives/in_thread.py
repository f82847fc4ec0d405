"""Run a blocking method of an archive in a thread: the keeper's guard reads archives, too."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_thread(call: Callable[Given, Result]) -> Callable[Given, Coroutine[Any, Any, Result]]:
    """Return a coroutine function that runs *call* in a thread."""

    @wraps(call)
    async def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return await asyncio.to_thread(call, *args, **kwargs)

    return run
