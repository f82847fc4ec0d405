import asyncio
import gc

import pytest

from tests.support.extent import loop_factories


@pytest.mark.parametrize("loop", loop_factories())
def test_a_server_that_a_test_left_open_is_an_error_and_not_a_hang(loop: str) -> None:
    """With warnings as errors, uvloop's own `close` waits forever for a handle of which it warns."""

    async def leaves_a_server() -> None:
        await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)

    with pytest.warns(ResourceWarning, match="unclosed|loop is closed|never closed"):  # noqa: PT031
        with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
            runner.run(leaves_a_server())
        gc.collect()
