"""Which answers mean that the token was refused: 401, and what the route lists in remint_on; nothing else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.settings.worker_values import RemintValues
from tests.forwarding.support import (
    REFUSED,
    afterwards,
    agrees,
    answer,
    bearer,
    post,
    recorded,
    refusals,
    replays,
)
from tests.upstream.support import OK, Step, says, says_and_resets
from tests.worker.support import proxy, token_of
from tests.worker.values import route
from tests.worker.wire import ask

# Most limits of the bank's gateway answer so.
ENTITLEMENT: dict[str, Any] = {"routes": (route("open", remint_on=(RemintValues(status=403, body="GCA-001"),)),)}
SCOPE = b'WWW-Authenticate: Bearer realm="bank", error="insufficient_scope"'


@pytest.mark.parametrize("status", [400, 403, 404, 407, 408, 421, 425, 429, 500, 502, 503, 504])
async def test_no_other_status_is_a_refusal(tmp_path: Path, status: int) -> None:
    """It goes to the caller as it is, is sent once, and nothing is minted for it."""
    async with proxy(tmp_path, says(answer(status, b"Retry-After: 1", body=b"theirs")), says(OK)) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.body) == (status, b"theirs")
        assert len(it.bank.requests) == 1
        assert it.keeper.received == []
        assert (record["sent_upstream"], record["replayed"], record["note"]) == ("yes", False, "")


async def test_a_scope_that_does_not_suffice_is_no_refusal(tmp_path: Path) -> None:
    """A new token would have the same scope (RFC 6750 3.1): the 401 is the caller's."""
    async with proxy(tmp_path, says(answer(401, SCOPE)), says(OK)) as it:
        reply = await ask(it.port, post())

        assert (reply.status, reply.header(b"WWW-Authenticate")) == (401, SCOPE.partition(b": ")[2])
        assert (len(it.bank.requests), it.keeper.received) == (1, [])
        assert (await recorded(it))["sent_upstream"] == "yes"


async def test_a_description_is_no_error_code(tmp_path: Path) -> None:
    """`error` alone says what is wrong (RFC 6750 3); the words beside it are anybody's."""
    described = b'WWW-Authenticate: Bearer error="invalid_token", error_description="insufficient_scope"'
    async with proxy(tmp_path, says(answer(401, described)), says(OK)) as it:
        it.keeper.mints[it.key("open")] = 1
        reply = await ask(it.port, post())

        assert (reply.status, len(it.bank.requests)) == (200, 2)


async def test_the_token_endpoints_own_401_sends_nothing(tmp_path: Path) -> None:
    """It is token_refused, and no request is made without a token."""
    async with proxy(tmp_path, tokens=False) as it:
        it.keeper.failure(it.key("open"), "token_refused")
        reply = await ask(it.port, post())

        agrees(reply, await recorded(it), sent="no")
        assert (reply.status, reply.problem["code"], reply.problem["retryable"]) == (502, "token_refused", False)
        assert it.untouched


def _slowly(*pieces: bytes) -> Step:
    """Answer in segments of their own, each as a chunk."""
    ready = asyncio.Event()
    ready.set()
    head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
    return afterwards(head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n", ready=ready)


@pytest.mark.parametrize(
    "refusal",
    [
        says(answer(403, body=b'{"errorCode": "GCA-001"}')),
        says(answer(403, body=b"GCA-001" + bytes(1_000_000))),
        says(answer(403, body=b"x" * (4096 - 7) + b"GCA-001" + bytes(9000))),
        _slowly(b'{"errorCode": "GC', b"A-0", b'01"}'),
        _slowly(b"x" * 4000, b"GCA", b"-001", bytes(100)),
    ],
    ids=["small", "large", "at the end of 4 KiB", "over three chunks", "over chunks, late"],
)
async def test_a_listed_answer_is_a_refusal(tmp_path: Path, refusal: Step) -> None:
    """Status and text match: the token is replaced and the request sent once more."""
    async with proxy(tmp_path, refusal, says(OK), **ENTITLEMENT) as it:
        assert (await ask(it.port, post())).status == 200
        record = await recorded(it)

        assert [attempt["status"] for attempt in record["attempts"]] == [403, 200]
        assert [bearer(request.head) for request in it.bank.requests] == [token_of("open", 1), token_of("open", 2)]
        assert (refusals(it), replays(it)) == ([1], [False])


def _large(text: bytes) -> bytes:
    return b"x" * 4090 + text + bytes(range(256)) * 2000


@pytest.mark.parametrize(
    ("theirs", "body"),
    [
        (says(answer(403, body=b"GCA-002")), b"GCA-002"),
        (says(answer(403, body=b"")), b""),
        (says(answer(404, body=b"GCA-001")), b"GCA-001"),
        (says(answer(403, body=_large(b"GCA-001"))), _large(b"GCA-001")),
        (_slowly(b"x" * 4090, b"GCA-001", b"y" * 300_000), b"x" * 4090 + b"GCA-001" + b"y" * 300_000),
    ],
    ids=["other text", "no text", "other status", "beyond 4 KiB", "beyond 4 KiB in chunks"],
)
async def test_an_answer_like_a_listed_one_is_handed_on_whole(tmp_path: Path, theirs: Step, body: bytes) -> None:
    """That its beginning was looked at changes nothing; text beyond 4 KiB is not looked at."""
    async with proxy(tmp_path, theirs, says(OK), **ENTITLEMENT) as it:
        reply = await ask(it.port, post())

        assert reply.status in {403, 404}
        assert (reply.body == body, reply.cut) == (True, False)
        assert (len(it.bank.requests), it.keeper.received) == (1, [])


async def test_a_listed_answer_that_can_not_be_replayed_is_handed_on_whole(tmp_path: Path) -> None:
    """Without a newer token the caller gets all of it, what was looked at too."""
    body = b"GCA-001" + bytes(range(256)) * 2000
    async with proxy(tmp_path, says(answer(403, body=body)), **ENTITLEMENT) as it:
        it.keeper.answer = "kept"
        reply = await ask(it.port, post())

        assert (reply.status, reply.body == body, reply.cut) == (403, True, False)
        assert (await recorded(it))["note"] == "no_newer_token"


async def test_a_status_without_text_is_enough_where_the_route_says_so(tmp_path: Path) -> None:
    """An empty `body` in remint_on means any; the second such answer is the caller's."""
    changes: dict[str, Any] = {"routes": (route("open", remint_on=(RemintValues(status=403, body=""),)),)}
    async with proxy(tmp_path, says(answer(403)), says(answer(403, body=b"again")), says(OK), **changes) as it:
        reply = await ask(it.port, post())

        assert (reply.status, reply.body) == (403, b"again")
        assert (await recorded(it))["note"] == "fresh_token_refused"
        assert (len(it.bank.requests), replays(it)) == (2, [True])


async def test_a_listed_answer_cut_off_where_it_is_looked_at_is_a_reset(tmp_path: Path) -> None:
    """Whether it was a refusal can't be told: 502, and no second send."""
    cut = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\nGCA-0"
    async with proxy(tmp_path, says_and_resets(cut), says(OK), **ENTITLEMENT) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.problem["code"]) == (502, "upstream_reset")
        agrees(reply, record, sent="yes")
        assert (len(it.bank.requests), it.keeper.received) == (1, [])


async def test_an_answer_cut_off_behind_what_is_looked_at_is_a_reset_too(tmp_path: Path) -> None:
    """As without remint_on: a small answer that is not whole is not begun, since callers would ask again."""
    cut = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10000\r\n\r\n" + b"x" * 5000
    async with proxy(tmp_path, says_and_resets(cut), says(OK), **ENTITLEMENT) as it:
        reply = await ask(it.port, post())

        assert (reply.status, reply.problem["code"]) == (502, "upstream_reset")
        agrees(reply, await recorded(it), sent="yes")
        assert (len(it.bank.requests), it.keeper.received) == (1, [])


async def test_401_is_a_refusal_on_a_route_that_lists_others_too(tmp_path: Path) -> None:
    """remint_on adds to 401 and does not replace it."""
    async with proxy(tmp_path, says(REFUSED), says(OK), **ENTITLEMENT) as it:
        assert (await ask(it.port, post())).status == 200
        assert len(it.bank.requests) == 2
