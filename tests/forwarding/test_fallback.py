"""Fallback after a refusal: the bank refused the modern token, so legacy serves; after nothing else does it."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from proxy.link.messages import Outcomes
from proxy.settings.worker_values import RemintValues
from tests.forwarding.migrating import MODERN_PREFIX, Moving, moving, token
from tests.forwarding.support import REFUSED, Judge, agrees, answer, bearer, intents, post, recorded, replays
from tests.upstream.support import OK, Peer, Step, eventually, says, says_and_closes, says_and_resets, says_nothing
from tests.worker.wire import ask, request, wire

ORDER = b"Idempotency-Key: order-1"
GET = request(b"GET", b"/open/pay?x=1", b"X-A: 1")
POST = post(b"/open/pay?x=1", ORDER, b"X-A: 1")
BOTH = pytest.mark.parametrize("sends", [GET, POST], ids=["GET", "POST"])


@BOTH
async def test_a_refused_modern_token_sends_the_same_request_to_legacy_once(tmp_path: Path, sends: bytes) -> None:
    """Host, path and token are legacy's, all else is the same; the modern mint is asked for and not waited for."""
    async with moving(tmp_path, modern=[says(REFUSED)]) as moved:
        moved.it.keeper.answer = ""
        reply = await ask(moved.it.port, sends)
        record = await recorded(moved.it)

        assert (reply.status, reply.body) == (200, b"ok")
        assert reply.header(b"Proxy-Status") == b'payproxy; received-status=200; details="fell_back"'
        (first,), (second,) = moved.modern.requests, moved.legacy.requests
        assert second.head == first.head.replace(MODERN_PREFIX.encode(), b"").replace(
            b"127.0.0.1:%d" % moved.modern.port, b"127.0.0.1:%d" % moved.legacy.port
        ).replace(token("modern").encode(), token("legacy").encode())
        assert second.body == first.body
        assert b"127.0.0.1:%d" % moved.legacy.port in second.head
        assert (record["side"], record["upstream"], record["credential"]) == ("legacy", "bank", "adfs")
        assert (record["note"], record["replayed"], record["sent_upstream"]) == ("fell_back", True, "yes")
        attempts = [(one["status"], one["sent"], one["side"]) for one in record["attempts"]]
        assert attempts == [(401, "yes", "modern"), (200, "yes", "legacy")]
        assert (moved.refused("modern"), moved.refused("legacy"), replays(moved.it)) == ([1], [], [])
        safe = sends is GET
        assert await moved.rows(2) == [
            ("payments", "modern", "", safe, "refused", 401, True),
            ("payments", "legacy", "", safe, "ok", 200, False),
        ]


async def test_each_send_of_a_fallback_has_its_own_intent(tmp_path: Path) -> None:
    """With side, upstream and credential of the send that follows it."""
    async with moving(tmp_path, modern=[says(REFUSED)]) as moved:
        assert (await ask(moved.it.port, POST)).status == 200

        assert [
            (one["attempt"], one["side"], one["upstream"], one["credential"], one["audience"])
            for one in intents(moved.it)
        ] == [(1, "modern", "modern", "login", "modern"), (2, "legacy", "bank", "adfs", "legacy")]


@pytest.mark.parametrize("again", [OK, REFUSED], ids=["accepted", "refused"])
async def test_a_newer_modern_token_that_the_bank_took_meanwhile_is_tried_instead(tmp_path: Path, again: bytes) -> None:
    """The second send has it, and its answer is final: legacy sees nothing."""
    running: list[Moving] = []

    async def refuses_after_a_renewal(peer: Peer) -> None:
        running[0].it.keeper.mint(running[0].key("modern"))
        assert (await ask(running[0].it.port, GET)).status == 200
        await peer.send(REFUSED)

    async with moving(tmp_path, modern=[refuses_after_a_renewal, says(OK), says(again)]) as moved:
        running.append(moved)
        reply = await ask(moved.it.port, POST)
        record = await recorded(moved.it, 2)

        assert reply.status == (200 if again is OK else 401)
        assert moved.sends == (0, 3)
        assert [bearer(one.head) for one in moved.modern.requests] == [token("modern", n) for n in (1, 2, 2)]
        assert (moved.refused("modern"), replays(moved.it)) == ([2] if again is REFUSED else [], [again is REFUSED])
        assert (record["side"], record["note"]) == ("modern", "" if again is OK else "fresh_token_refused")
        outcome = ("ok", 200, True) if again is OK else ("refused", 401, True)
        assert [row[1:2] + row[4:] for row in await moved.rows(2)] == [
            ("modern", "ok", 200, False),
            ("modern", *outcome),
        ]


async def test_a_newer_modern_token_that_nobody_has_tried_is_not(tmp_path: Path) -> None:
    """It may be refused too, by which the caller would get a 401 that legacy spares it."""
    running: list[Moving] = []

    async def refuses_after_a_renewal(peer: Peer) -> None:
        running[0].it.keeper.mint(running[0].key("modern"))
        await peer.send(REFUSED)

    async with moving(tmp_path, modern=[refuses_after_a_renewal]) as moved:
        running.append(moved)

        assert (await ask(moved.it.port, POST)).status == 200
        assert moved.sends == (1, 1)
        assert (moved.refused("modern"), replays(moved.it)) == ([], [])


@pytest.mark.parametrize("status", [204, 302, 400, 403, 404, 429, 500, 503])
async def test_legacys_answer_is_the_callers_whatever_it_is(tmp_path: Path, status: int) -> None:
    """After the second send there is no third."""
    async with moving(tmp_path, modern=[says(REFUSED)], legacy=[says(answer(status))]) as moved:
        assert (await ask(moved.it.port, POST)).status == status
        assert moved.sends == (1, 1)


async def test_a_legacy_token_that_is_refused_too_is_replaced_for_the_next(tmp_path: Path) -> None:
    """The second 401 goes to the caller, and the keeper is asked for both tokens."""
    async with moving(tmp_path, modern=[says(REFUSED)], legacy=[says(answer(401, body=b"no")), says(OK)]) as moved:
        reply = await ask(moved.it.port, POST)
        record = await recorded(moved.it)

        assert (reply.status, reply.body) == (401, b"no")
        assert (record["note"], record["sent_upstream"], record["side"]) == ("legacy_token_refused", "no", "legacy")
        assert moved.sends == (1, 1)
        assert (moved.refused("modern"), moved.refused("legacy"), replays(moved.it)) == ([1], [1], [])
        assert [row[1:2] + row[4:] for row in await moved.rows(2)] == [
            ("modern", "refused", 401, True),
            ("legacy", "refused", 401, True),
        ]
        assert moved.pins == []


FATES: list[tuple[Step, int]] = [
    (says_and_resets(b""), 502),
    (says_and_closes(b""), 502),
    (says_and_resets(b"HTTP/1.1 200 OK\r\nContent-Le"), 502),
    (says(b"nonsense\r\n\r\n"), 502),
    (says_nothing, 504),
]
NAMES = ["reset", "closed", "half a head", "nonsense", "silence"]


@pytest.mark.parametrize(("fate", "status"), FATES, ids=NAMES)
async def test_what_becomes_of_the_send_to_legacy_is_final(tmp_path: Path, fate: Step, status: int) -> None:
    """The outcome is unknown, and nothing more is sent to either side."""
    upstream = {"response_timeout": 0.4}
    async with moving(tmp_path, modern=[says(REFUSED)], legacy=[fate], upstream=upstream) as moved:
        reply = await ask(moved.it.port, POST)

        assert reply.status == status
        agrees(reply, await recorded(moved.it), sent="unknown")
        assert moved.sends == (1, 1)
        assert [row[1:2] + row[4:] for row in await moved.rows(2)] == [
            ("modern", "refused", 401, True),
            ("legacy", "failed", 0, False),
        ]


SCOPE = answer(401, b'WWW-Authenticate: Bearer error="insufficient_scope"')


@BOTH
@pytest.mark.parametrize(
    ("fate", "status"),
    [*FATES, *((says(answer(status)), status) for status in (200, 400, 403, 404, 429, 500, 503)), (says(SCOPE), 401)],
    ids=[*NAMES, *["200", "400", "403", "404", "429", "500", "503"], "insufficient_scope"],
)
async def test_nothing_but_a_refused_token_sends_to_legacy(
    tmp_path: Path, fate: Step, status: int, sends: bytes
) -> None:
    """A payment that modern may have made is never made on legacy too."""
    async with moving(tmp_path, modern=[fate], upstream={"response_timeout": 0.4}) as moved:
        assert (await ask(moved.it.port, sends)).status == status
        assert (await recorded(moved.it))["side"] == "modern"
        assert moved.sends == (0, 1)


async def test_a_modern_bank_that_is_not_there_is_no_reason_to_fall_back(tmp_path: Path) -> None:
    """Nothing was sent, and the caller is told so: only the token decides."""
    async with moving(tmp_path, nowhere="modern") as moved:
        reply = await ask(moved.it.port, POST)

        assert (reply.status, reply.problem["code"]) == (502, "upstream_unreachable")
        assert (moved.sends, moved.pins) == ((0, 0), [])
        assert [row[1:2] + row[4:] for row in await moved.rows(1)] == [("modern", "failed", 0, False)]


async def test_a_legacy_bank_that_is_not_there_leaves_the_caller_with_moderns_answer(tmp_path: Path) -> None:
    """The 401 is the bank's own, and the record says what stood in the way of a second send."""
    async with moving(tmp_path, nowhere="legacy", modern=[says(REFUSED)]) as moved:
        reply = await ask(moved.it.port, POST)
        record = await recorded(moved.it)

        assert (reply.status, reply.body) == (401, b"refused")
        assert (record["side"], record["upstream"], record["credential"]) == ("modern", "modern", "login")
        assert (record["note"], record["replayed"]) == ("upstream_unreachable", False)
        assert moved.refused("modern") == [1]
        assert [row[1:2] + row[4:] for row in await moved.rows(1)] == [("modern", "refused", 401, True)]


async def test_without_a_legacy_token_the_callers_answer_is_moderns(tmp_path: Path) -> None:
    """The keeper said why there is none: the bank's own 401 is the answer, at once."""
    async with moving(tmp_path, tokens=["modern"], modern=[says(REFUSED)]) as moved:
        moved.it.keeper.failure(moved.key("legacy"), "token_unavailable")
        reply = await ask(moved.it.port, POST)
        record = await recorded(moved.it)

        assert (reply.status, reply.body) == (401, b"refused")
        assert (record["side"], record["note"], record["replayed"]) == ("modern", "no_newer_token", False)
        assert moved.sends == (0, 1)
        assert moved.refused("modern") == [1]
        assert [row[1:2] + row[4:] for row in await moved.rows(1)] == [("modern", "refused", 401, True)]


async def test_a_legacy_token_that_is_being_minted_is_waited_for(tmp_path: Path) -> None:
    """As any request on legacy waits for it: the caller sees no 401 that legacy would have spared it."""
    async with moving(tmp_path, tokens=["modern"], modern=[says(REFUSED)]) as moved, wire(moved.it.port) as caller:
        await caller.send(POST)
        await eventually(lambda: moved.refused("modern") == [1])
        moved.it.keeper.mint(moved.key("legacy"))

        assert (await caller.answer()).status == 200
        assert moved.sends == (1, 1)


async def test_a_body_that_is_not_held_is_not_sent_to_legacy(tmp_path: Path) -> None:
    """It is gone: the caller gets the 401, and the modern token is replaced behind it."""
    async with moving(tmp_path, modern=[says(REFUSED)], route={"replay_body_bytes": 8}) as moved:
        reply = await ask(moved.it.port, post(b"/open/pay", body=bytes(64)))
        record = await recorded(moved.it)

        assert reply.status == 401
        assert (record["note"], record["side"], record["replayed"]) == ("body_not_held", "modern", False)
        assert moved.sends == (0, 1)
        assert moved.refused("modern") == [1]


async def test_a_listed_answer_is_a_refusal_too(tmp_path: Path) -> None:
    """What the rule lists in remint_on falls back as a 401 does; the same status with another body does not."""
    listed = RemintValues(status=403, body="GCA-001")
    steps = [says(answer(403, body=b"GCA-001")), says(answer(403, body=b"GCA-002"))]
    async with moving(tmp_path, modern=steps, route={"remint_on": (listed,)}) as moved:
        both = [post(b"/open/pay", b"Idempotency-Key: %d" % number) for number in range(2)]
        assert [(await ask(moved.it.port, one)).status for one in both] == [200, 403]
        assert moved.sends == (1, 2)


async def test_a_legacy_token_for_another_host_is_not_sent(tmp_path: Path) -> None:
    """The origins of the second send's token are compared too, right before its bytes are written."""
    async with moving(tmp_path, tokens=["modern"], modern=[says(REFUSED)]) as moved:
        moved.it.keeper.mint(moved.key("legacy"), origins=(f"http://127.0.0.1:{moved.modern.port}",))
        reply = await ask(moved.it.port, POST)

        assert (reply.status, reply.problem["code"]) == (500, "internal_error")
        assert reply.problem["sent_upstream"] == "no"
        assert moved.sends == (0, 1)


async def test_other_rules_have_no_fallback(tmp_path: Path) -> None:
    """A rule that shares the legacy credential waits for its newer token, as ever."""
    async with moving(tmp_path, legacy=[says(REFUSED), says(OK)]) as moved:
        assert (await ask(moved.it.port, post(b"/plain/pay"))).status == 200
        record = await recorded(moved.it)

        assert moved.sends == (2, 0)
        assert (record["side"], record["note"]) == ("", "")
        assert all("side" not in attempt for attempt in record["attempts"])
        assert moved.it.keeper.all(Outcomes) == []


async def test_a_modern_side_that_refuses_everything_costs_no_caller_a_second_payment(tmp_path: Path) -> None:
    """A hundred at once: each is done exactly once, on legacy, in two sends, and legacy sees no modern token."""
    judge = Judge(*range(1, 500), audience="modern")
    methods = [b"POST", b"PUT", b"PATCH", b"DELETE", b"GET"] * 20
    async with moving(tmp_path, modern=[judge]) as moved:
        judge.bank = moved.modern
        replies = await asyncio.gather(
            *(
                ask(moved.it.port, request(method, b"/open/pay", b"Idempotency-Key: o-%d" % number, body=b"{}"))
                for number, method in enumerate(methods)
            )
        )

        assert Counter(reply.status for reply in replies) == {200: len(methods)}
        for its_bank in (moved.legacy, moved.modern):
            orders = [line for one in its_bank.requests for line in one.head.split(b"\r\n") if line.startswith(b"Idem")]
            assert sorted(orders) == sorted(b"Idempotency-Key: o-%d" % number for number in range(len(methods)))


async def test_a_modern_token_that_is_refused_again_is_replaced_ever_more_slowly(tmp_path: Path) -> None:
    """The keeper is told of each token once that it did not help, and once that the next one did."""
    modern = [says(REFUSED), says(REFUSED), says(REFUSED), says(OK), says(OK)]
    async with moving(tmp_path, modern=modern) as moved:
        for number in range(len(modern)):
            one = post(b"/open/pay", b"Idempotency-Key: %d" % number)
            assert (await ask(moved.it.port, one)).status == 200

        assert moved.sends == (3, 5)
        assert moved.refused("modern") == [1, 2, 3]
        assert replays(moved.it) == [True, True, False]
