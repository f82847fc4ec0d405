"""The 401 protocol: a refused token is replaced and the same request sent once more."""

from pathlib import Path

import pytest

from proxy.link.messages import TokenAccepted, TokenRefusal
from proxy.secret import Secret
from proxy.tokens.token import AccessToken, fingerprint
from tests.forwarding.support import (
    REFUSED,
    agrees,
    answer,
    bearer,
    exchanged,
    fingerprints,
    intents,
    post,
    recorded,
    refusals,
    replays,
)
from tests.upstream.support import (
    OK,
    Peer,
    Step,
    eventually,
    says,
    says_and_closes,
    says_and_resets,
    says_nothing,
)
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.wire import ask, chunked, request, wire

LINES = (b"X-B: 2", b"Idempotency-Key: order-1", b"request-id: abc", b"X-A: 1", b"merchantId: M", b"X-B: 3")
CHUNKED = b"\r\n".join([b"POST /open/pay?x=1 HTTP/1.1", b"Host: localhost", *LINES, b"Transfer-Encoding: chunked"])


@pytest.mark.parametrize(
    "sends",
    [
        request(b"POST", b"/open/pay?x=1", *LINES, body=bytes(range(256)) * 40),
        CHUNKED + b"\r\n\r\n" + chunked(b"one", b"two"),
        request(b"DELETE", b"/open/pay?x=1", *LINES),
        request(b"GET", b"/open/pay?x=1", *LINES),
    ],
    ids=["POST", "POST in chunks", "DELETE", "GET"],
)
async def test_a_refused_request_is_sent_once_more_with_a_newer_token(tmp_path: Path, sends: bytes) -> None:
    """The same bytes but for the token: body, request ids, Idempotency-Key, spelling and order of the headers."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        reply = await ask(it.port, sends)

        assert (reply.status, reply.body) == (200, b"ok")
        first, second = it.bank.requests
        tokens = [token_of("open", 1), token_of("open", 2)]
        assert [bearer(first.head), bearer(second.head)] == tokens
        assert first.head.replace(tokens[0].encode(), b"") == second.head.replace(tokens[1].encode(), b"")
        assert all(line in second.head.split(b"\r\n") for line in LINES)
        assert first.body == second.body
        assert refusals(it) == [1]
        assert replays(it) == [False]


async def test_both_attempts_are_in_the_record(tmp_path: Path) -> None:
    """Each with its own intent before it, its status and the fingerprint of its token."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        reply = await ask(it.port, post(b"/open/pay", b"Idempotency-Key: order-1"))
        record = await recorded(it)

        assert reply.header(b"Proxy-Status") == b'payproxy; received-status=200; details="replayed"'
        first, second = record["attempts"]
        assert [first["status"], second["status"]] == [401, 200]
        assert [first["sent"], second["sent"]] == ["yes", "yes"]
        assert [first["token_fingerprint"], second["token_fingerprint"]] == fingerprints("open", 1, 2)
        assert (record["replayed"], record["note"], record["sent_upstream"]) == (True, "", "yes")
        assert (record["status"], record["origin"], record["code"]) == (200, "bank", "")
        assert [(intent["id"], intent["attempt"]) for intent in intents(it)] == [(record["id"], 1), (record["id"], 2)]
        assert [intent["token_fingerprint"] for intent in intents(it)] == fingerprints("open", 1, 2)


async def test_a_mint_that_returns_the_same_string_is_a_new_token(tmp_path: Path) -> None:
    """A token is known by its serial number: the endpoint may hand out the same value again."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        it.keeper.mints[it.key("open")] = 1
        it.keeper.answer = "replaced"
        board = it.gateway.tokens
        key = next(route.own.token_key for route in it.gateway.table.routes if route.name == "open")

        def same_string(_: str) -> None:
            old = board.get(key)
            assert old is not None
            board._tokens[key.digest] = AccessToken(
                key=key,
                mint=old.mint + 1,
                value=Secret(old.value.reveal()),
                origins=old.origins,
                minted=old.minted,
                stale_at=old.stale_at,
                expires=old.expires,
            )

        it.keeper.mint = same_string  # type: ignore[method-assign, assignment]

        assert (await ask(it.port, post())).status == 200
        assert [bearer(request.head) for request in it.bank.requests] == [token_of("open", 1)] * 2


async def test_a_token_that_was_replaced_meanwhile_costs_no_mint(tmp_path: Path) -> None:
    """The board has a newer one when the refusal arrives: the second send goes out without asking the keeper."""
    running: list[Proxy] = []

    async def refuses_after_a_renewal(peer: Peer) -> None:
        running[0].keeper.mint(running[0].key("open"))
        await peer.send(REFUSED)

    async with proxy(tmp_path, refuses_after_a_renewal, says(OK)) as it:
        running.append(it)

        assert (await ask(it.port, post())).status == 200
        assert [bearer(request.head) for request in it.bank.requests] == [token_of("open", 1), token_of("open", 2)]
        assert refusals(it) == []
        assert replays(it) == [False]


async def test_a_second_refusal_is_the_callers_untouched(tmp_path: Path) -> None:
    """Status, headers and body of the second 401; the keeper is told, so that it mints more slowly; no third send."""
    challenge = b'WWW-Authenticate: Bearer realm="bank", error="invalid_token", error_description="no entitlement"'
    async with proxy(tmp_path, says(REFUSED), says(answer(401, challenge, b"X-Trace: 7", body=b"second"))) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.reason, reply.body) == (401, b"Its Reason", b"second")
        assert reply.lines[:2] == tuple(tuple(line.split(b": ", 1)) for line in (challenge, b"X-Trace: 7"))
        assert reply.header(b"Proxy-Status") == b'payproxy; received-status=401; details="fresh_token_refused"'
        assert (record["note"], record["replayed"], record["origin"]) == ("fresh_token_refused", True, "bank")
        assert [attempt["status"] for attempt in record["attempts"]] == [401, 401]
        assert record["sent_upstream"] == "no"
        assert len(it.bank.requests) == 2
        assert (refusals(it), replays(it)) == ([1], [True])


async def test_a_token_minted_by_this_very_request_is_replaced_once(tmp_path: Path) -> None:
    """A request that waited for the first mint has its refusal answered as any other."""
    async with proxy(tmp_path, says(REFUSED), says(OK), tokens=False) as it, wire(it.port) as caller:
        await caller.send(post())
        await eventually(lambda: it.gateway.admission.in_flight == 1)
        it.keeper.mint(it.key("open"))

        assert (await caller.answer()).status == 200
        assert [bearer(request.head) for request in it.bank.requests] == [token_of("open", 1), token_of("open", 2)]


@pytest.mark.parametrize(
    ("fate", "status", "code"),
    [
        (says_and_resets(b""), 502, "upstream_reset"),
        (says_and_closes(b""), 502, "upstream_reset"),
        (says_and_resets(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, "upstream_reset"),
        (says(b"nonsense\r\n\r\n"), 502, "upstream_bad_response"),
        (says_nothing, 504, "upstream_timeout"),
    ],
    ids=["reset", "closed", "half a head", "nonsense", "silence"],
)
async def test_what_becomes_of_the_second_send_is_final(tmp_path: Path, fate: Step, status: int, code: str) -> None:
    """After a 401 and a failure the outcome is unknown; two sends, no third, and the next caller is served."""
    async with proxy(tmp_path, says(REFUSED), fate, says(OK), upstream={"response_timeout": 0.4}) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.problem["code"]) == (status, code)
        agrees(reply, record, sent="unknown")
        assert [attempt["sent"] for attempt in record["attempts"]] == ["yes", "unknown"]
        assert record["replayed"]
        assert len(it.bank.requests) == 2
        assert (await ask(it.port, post())).status == 200
        assert len(it.bank.requests) == 3


async def test_the_answer_to_the_second_send_is_passed_on_as_any_other(tmp_path: Path) -> None:
    """A 503 after a refusal is the caller's; it is not sent a third time."""
    async with proxy(tmp_path, says(REFUSED), says(answer(503, body=b"busy")), says(OK)) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.body) == (503, b"busy")
        assert (record["sent_upstream"], record["replayed"], record["note"]) == ("yes", True, "")
        assert replays(it) == [False]
        assert len(it.bank.requests) == 2


async def test_the_next_request_begins_with_the_newer_token(tmp_path: Path) -> None:
    """One refusal costs one second send, not one per request."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it, wire(it.port) as caller:
        for _ in range(3):
            assert (await exchanged(caller, post())).status == 200
        assert [bearer(request.head) for request in it.bank.requests] == [
            token_of("open", serial) for serial in (1, 2, 2, 2)
        ]
        assert fingerprint(token_of("open", 2)) == (await recorded(it, 3))["attempts"][0]["token_fingerprint"]


async def test_the_keeper_knows_whether_the_bank_has_accepted_a_token(tmp_path: Path) -> None:
    """Else it may be bound to the address of the replica that minted it. A 500 is no acceptance."""
    failing = answer(500)
    async with proxy(tmp_path, says(failing), says(REFUSED), says(OK), says(OK), says(REFUSED), says(OK)) as it:
        for _ in range(4):
            await ask(it.port, post(b"/open/pay"))

        told = [(type(one), one.mint) for one in it.keeper.received if isinstance(one, TokenRefusal | TokenAccepted)]
        assert told == [(TokenRefusal, 1), (TokenAccepted, 2), (TokenRefusal, 2), (TokenAccepted, 3)]
