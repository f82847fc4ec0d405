"""Every asynchronous test of this room runs on asyncio and, where it is installed, on uvloop."""

import asyncio
import importlib.util
from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the event loops."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415 - an extra: the proxy is correct without it

        loops["uvloop"] = uvloop.new_event_loop
    return loops
