"""The event loops on which each asynchronous test of this package runs."""

from tests.support.extent import loop_factories as pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
