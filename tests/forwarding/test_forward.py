"""What a request leaves in the process once it has ended."""

import gc
from pathlib import Path

import pytest

from tests.forwarding.support import exchanged, post
from tests.upstream.support import OK, says
from tests.worker.support import proxy
from tests.worker.wire import wire

REQUESTS = 20


@pytest.mark.parametrize("target", [b"/open/pay", b"/nowhere"])
async def test_a_request_leaves_nothing_to_the_garbage_collector(target: bytes, tmp_path: Path) -> None:
    """Refused ones neither: their bodies would stay until it runs, 15 MB of 1000 uploads refused at once."""
    async with proxy(tmp_path, says(OK)) as it, wire(it.port) as caller:
        found = []
        for requests in (1, REQUESTS):
            gc.collect()
            gc.disable()
            try:
                for _ in range(requests):
                    await exchanged(caller, post(target), method="POST")
                found.append(gc.collect())
            finally:
                gc.enable()
    assert found[1] - found[0] < REQUESTS
