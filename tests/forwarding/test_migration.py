"""What is told of exchanges on a migrated route: a row for each side that was tried."""

from pathlib import Path
from typing import Any

import pytest

from proxy.link.messages import Outcomes
from tests.forwarding.migrating import moving
from tests.forwarding.support import answer, post, recorded
from tests.upstream.support import OK, Step, eventually, says, says_and_closes, says_and_resets, says_nothing
from tests.worker.values import CALLER
from tests.worker.wire import ask, request, wire

SCOPE = answer(401, b'WWW-Authenticate: Bearer error="insufficient_scope"')
ENDS: dict[str, tuple[Step, str, int]] = {
    **{str(status): (says(answer(status)), "ok", status) for status in (200, 204, 302)},
    **{str(status): (says(answer(status)), "client_error", status) for status in (400, 404, 409, 429)},
    "403": (says(answer(403)), "forbidden", 403),
    "insufficient_scope": (says(SCOPE), "forbidden", 401),
    **{str(status): (says(answer(status)), "failed", status) for status in (500, 503)},
    "reset": (says_and_resets(b""), "failed", 0),
    "nonsense": (says(b"nonsense\r\n\r\n"), "failed", 0),
    "silence": (says_nothing, "failed", 0),
    "a body cut": (says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "failed", 200),
    "a large body cut": (says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nhalf"), "failed", 200),
}


@pytest.mark.parametrize("side", ["legacy", "modern"])
@pytest.mark.parametrize(("fate", "outcome", "status"), list(ENDS.values()), ids=list(ENDS))
async def test_an_exchange_is_told_with_side_caller_and_outcome(
    tmp_path: Path, *, fate: Step, outcome: str, status: int, side: str
) -> None:
    """Whichever side it went to; 401 and 403 are told apart from other answers of that kind."""
    changes: dict[str, Any] = {
        "weight": 100 if side == "modern" else 0,
        "callers": (CALLER,),
        "upstream": {"response_timeout": 0.4},
    }
    async with moving(tmp_path, legacy=[fate], modern=[fate], **changes) as moved, wire(moved.it.port) as caller:
        await caller.send(post(b"/open/pay"))
        await eventually(lambda: bool(moved.it.ledger.ended))

        assert await moved.rows(1) == [("payments", side, "erp", False, outcome, status, False)]
        (row,) = [row for one in moved.it.keeper.all(Outcomes) for row in one.rows]
        assert row[7] == moved.it.ledger.ended[0].finished


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"POST", b"DELETE"])
async def test_a_row_says_whether_its_method_is_safe(tmp_path: Path, method: bytes) -> None:
    """Methods are callers' inventions: their safety is all that is told of them."""
    async with moving(tmp_path, modern=[says(answer(404))]) as moved:
        async with wire(moved.it.port) as caller:
            await caller.send(request(method, b"/open/pay"))
            assert (await caller.answer(method=method.decode())).status == 404
        assert [row[3] for row in await moved.rows(1)] == [method in {b"GET", b"HEAD", b"OPTIONS"}]


async def test_what_the_proxy_refuses_speaks_for_no_side(tmp_path: Path) -> None:
    """A body that is too large, or too much at once, is no failure of the bank's."""
    async with moving(tmp_path, server={"max_body_bytes": 4}) as moved:
        assert (await ask(moved.it.port, post(b"/open/pay", body=b"12345"))).status == 413
        assert await moved.rows(1) == [("payments", "modern", "", False, "none", 0, False)]


async def test_a_caller_that_leaves_speaks_for_no_side(tmp_path: Path) -> None:
    """Its GET is cut off at the bank, and nobody knows what would have come."""
    async with moving(tmp_path, modern=[says_nothing]) as moved:
        async with wire(moved.it.port) as caller:
            await caller.send(request(b"GET", b"/open/pay"))
            await eventually(lambda: moved.modern.heads == 1)
        assert [row[4:] for row in await moved.rows(1)] == [("none", 0, False)]
        assert (await recorded(moved.it))["caller_left"]


async def test_nothing_is_told_of_other_rules_and_of_what_matches_none(tmp_path: Path) -> None:
    """There is no side to speak for or against."""
    async with moving(tmp_path, legacy=[says(OK)]) as moved:
        assert (await ask(moved.it.port, post(b"/plain/pay"))).status == 200
        assert (await ask(moved.it.port, post(b"/nowhere"))).status == 404
        assert (await ask(moved.it.port, post(b"/open/pay"))).status == 200
        assert [row[1] for row in await moved.rows(1)] == ["modern"]
