"""The worker's side of signed bodies: how many of its requests may wait, and of whom."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.errors import SignatureUnavailable
from proxy.link.counts import SignatureCount
from proxy.link.messages import SignatureAnswer, SignatureRequest
from proxy.worker.signature_requests import SignatureRequests
from tests.support.clock import settle

DIGEST = bytes(32)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Callable[[], SignatureRequests]:
    """Return what makes the signatures of a worker with room for eight; the keeper does not answer by itself."""
    monkeypatch.setattr("proxy.worker.signature_requests.MOST_SIGNATURES_WAITING", 8)
    return lambda: SignatureRequests(send=list[SignatureRequest]().append)


async def wait(requests: SignatureRequests, caller: str) -> "asyncio.Task[tuple[str, str]]":
    """Have a request of *caller* wait for a signature, and return it."""
    task = asyncio.create_task(requests.sign("pay", DIGEST, caller=caller))
    await settle()
    return task


async def test_a_caller_leaves_room_for_others(eight: Callable[[], SignatureRequests]) -> None:
    """Alone it has half; each further caller as many as are left then."""
    requests = eight()
    waiting = [await wait(requests, "erp") for _ in range(4)]
    with pytest.raises(SignatureUnavailable) as refused:
        await requests.sign("pay", DIGEST, caller="erp")
    assert refused.value.cause == "4 requests of this worker wait for a signature, 4 of them of this caller"
    waiting += [await wait(requests, "treasury") for _ in range(2)]
    with pytest.raises(SignatureUnavailable):
        await requests.sign("pay", DIGEST, caller="treasury")
    waiting.append(await wait(requests, "shop"))

    assert not any(task.done() for task in waiting)
    assert requests.refused() == (SignatureCount("pay", "overloaded", 2.0),)
    requests.abandon()
    assert all(isinstance(one, SignatureUnavailable) for one in await asyncio.gather(*waiting, return_exceptions=True))


async def test_what_was_answered_or_left_makes_room(eight: Callable[[], SignatureRequests]) -> None:
    """For the same caller too."""
    requests = eight()
    waiting = [await wait(requests, "erp") for _ in range(4)]
    requests.on_answer(SignatureAnswer(1, "signature", "key", ""))
    waiting[1].cancel()
    await settle()
    waiting += [await wait(requests, "erp") for _ in range(2)]

    assert [task.done() for task in waiting] == [True, True, False, False, False, False]
    assert waiting[0].result() == ("signature", "key")
    requests.abandon()
    await asyncio.gather(*waiting, return_exceptions=True)
