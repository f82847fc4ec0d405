"""No holder takes all places: callers of one worker, over raw sockets."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.callers.caller import Caller
from proxy.errors import Overloaded
from proxy.forwarding.admission import Admission
from tests.forwarding.test_facade import FORM, PATH, asking, form, running
from tests.support.clock import ManualClock
from tests.upstream.support import eventually
from tests.worker.support import Proxy, proxy
from tests.worker.values import CALLER
from tests.worker.wire import ask, request, wire

CALLERS = tuple(
    replace(CALLER, name=name, networks=(), api_key_sha256=(hashlib.sha256(name.encode()).hexdigest(),))
    for name in ("erp", "batch")
)


def key(name: str) -> bytes:
    """Return the line by which the caller *name* is known."""
    return f"X-Payproxy-Key: {name}".encode()


@contextlib.asynccontextmanager
async def stalled(it: Proxy, count: int, name: str, size: int = 10) -> AsyncIterator[None]:
    """Hold *count* requests of *name* whose bodies do not come."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            caller = await stack.enter_async_context(wire(it.port))
            await caller.send(request(b"POST", b"/open/a", key(name), b"Content-Length: %d" % size) + b"a")
        await eventually(lambda: it.gateway.admission.in_flight >= count)
        yield


async def post(it: Proxy, name: str) -> int:
    """Return the status of a payment of *name*."""
    return (await ask(it.port, request(b"POST", b"/open/a", key(name), body=b"{}"))).status


@pytest.mark.parametrize(
    ("server", "size", "count"),
    [({"max_requests": 16}, 10, 14), ({"body_memory_bytes": 8000}, 1000, 7)],
    ids=["places", "memory"],
)
async def test_stalled_requests_of_one_caller_leave_room_for_others(
    server: dict[str, Any], size: int, count: int, tmp_path: Path
) -> None:
    """It held all 1,024 for as long as exchange_timeout; the last eighth is another's, and then half."""
    async with proxy(tmp_path, callers=CALLERS, server=server) as it, stalled(it, count, "erp", size):
        over = request(b"POST", b"/open/a", key("erp"), b"Content-Length: %d" % size)
        assert (await ask(it.port, over)).status == 503
        for _ in range(3):
            assert await post(it, "batch") == 200
        assert (await ask(it.port, over)).problem["code"] == "overloaded"


async def test_the_only_caller_may_have_all(tmp_path: Path) -> None:
    """Nobody else is configured: there is nobody to keep places for."""
    async with proxy(tmp_path, callers=CALLERS[:1], server={"max_requests": 4}) as it:
        async with stalled(it, 3, "erp"):
            assert await post(it, "erp") == 200
        await eventually(lambda: it.gateway.admission.in_flight == 0)


async def test_half_counts_only_while_another_one_wants_some() -> None:
    """A minute after the other's last request the one may have more again."""
    clock = ManualClock()
    admission = Admission(max_requests=16, body_memory=0, callers=2, clock=clock)
    with contextlib.ExitStack() as places:
        with admission.admit(Caller("batch", "")):
            for _ in range(8):
                places.enter_context(admission.admit(Caller("erp", "")))
            with pytest.raises(Overloaded, match="its part"):
                admission.admit(Caller("erp", ""))
        await clock.advance(61)
        for _ in range(6):
            places.enter_context(admission.admit(Caller("erp", "")))
        with pytest.raises(Overloaded, match="14"):
            admission.admit(Caller("erp", ""))
    assert admission.in_flight == 0


async def test_token_requests_of_strangers_have_a_share_of_their_own(tmp_path: Path) -> None:
    """Stalled ones take no place of a caller's, and one address has at most half of them."""
    half = asking(form())[:-20]
    async with running(tmp_path, server={"max_requests": 64}) as it, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            stranger = await stack.enter_async_context(wire(it.port))
            await stranger.send(half)
        await eventually(lambda: sum(it.gateway.admission.unknown.values()) == 2)

        refused = await ask(it.port, request(b"POST", PATH, FORM, body=b"grant_type=x"))

        assert (refused.status, refused.problem["code"]) == (503, "overloaded")
        assert it.gateway.admission.in_flight == 0
    await eventually(lambda: not it.gateway.admission.unknown)
