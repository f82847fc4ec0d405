"""Every asynchronous test of this room runs on asyncio and, where it is installed, on uvloop."""

from tests.worker.conftest import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
