import pytest

from tests.upstream.support import GET, bank, call, pool_of


async def test_a_request_goes_out_as_given_and_the_answer_comes_back() -> None:
    """Head and body reach the bank byte for byte, and a small answer is complete at once."""
    async with bank() as it, pool_of(it.port) as pool:
        assert await call(pool) == (200, b"ok", False)
        assert await call(pool) == (200, b"ok", True)
        assert [request.head for request in it.requests] == [GET, GET]
        assert it.connections == 1
