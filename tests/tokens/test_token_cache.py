"""The worker's dictionary of tokens."""

import asyncio

import pytest

from proxy.credentials.token_key import TokenKey
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.link.messages import (
    RefusalAnswer,
    Replayed,
    TokenAccepted,
    TokenAsked,
    TokenFailure,
    TokenRefusal,
    TokenUpdate,
    TokenValue,
)
from proxy.secret import Secret
from proxy.tokens.token import AccessToken
from proxy.tokens.token_cache import TokenCache
from tests.support.clock import ManualClock, settle

KEY = TokenKey(
    token_url="https://login.example/token",
    client_id="client",
    auth_method="private_key_jwt",
    audience_parameter="audience",
    audience="jpm:uri:prod:payments",
    scope="",
    credential="login",
)
OTHER = TokenKey(
    token_url=KEY.token_url,
    client_id=KEY.client_id,
    auth_method=KEY.auth_method,
    audience_parameter=KEY.audience_parameter,
    audience="jpm:uri:prod:other",
    scope="",
    credential="login",
)


class Kept:
    """A board with a clock that stands, and what it sent to its keeper."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[TokenRefusal | TokenAccepted | Replayed] = []
        self.board = TokenCache([KEY, OTHER], clock=self.clock, send=self.sent.append)

    def token(self, mint: int, *, seconds: float = 100.0, key: TokenKey = KEY) -> TokenUpdate:
        """Return the keeper's message about a token."""
        now = self.clock.monotonic()
        token = TokenValue(mint, Secret(f"value-{mint}"), ("https://bank:443",), now, now + seconds / 2, now + seconds)
        return TokenUpdate(key.digest, token, None)

    def serve(self, *, sent: float) -> None:
        """Have the bank accept the current token in a request sent at *sent*, as `Send` reports it."""
        token = self.board.get(KEY)
        assert token is not None
        if token.mint in self.board.to_report:
            self.board.works(token, sent=sent)

    def accepted(self) -> list[tuple[int, float]]:
        """Return the acceptances that the keeper was told of."""
        return [(one.mint, one.sent) for one in self.sent if isinstance(one, TokenAccepted)]

    def failure(self, code: str, *, seconds: float = 30.0) -> TokenUpdate:
        """Return the keeper's message that there is no token."""
        why = TokenFailure(code, "no", "because", self.clock.monotonic() + seconds)
        return TokenUpdate(KEY.digest, None, why)


async def test_the_first_acceptance_of_each_token_is_reported(kept: Kept) -> None:
    """Once, and of the token in use only; the update of a failure beside the same token changes nothing."""
    for mint in (1, 2):
        kept.board.on_update(kept.token(mint))
        kept.serve(sent=3.0)
        kept.board.on_update(kept.token(mint))
        kept.serve(sent=4.0)

    assert kept.accepted() == [(1, 3.0), (2, 3.0)]
    assert kept.board.to_report == set()


async def test_an_acceptance_is_reported_again_when_the_keeper_asks(kept: Kept) -> None:
    """Only by a request that was sent since then: what was sent before may have been accepted before."""
    kept.board.on_update(kept.token(1))
    kept.serve(sent=3.0)
    kept.board.on_asked(TokenAsked(KEY.digest, 1, 5.0))
    for sent in (4.9, 5.0, 6.0):
        kept.serve(sent=sent)

    assert kept.accepted() == [(1, 3.0), (1, 5.0)]


async def test_a_token_that_was_withdrawn_is_not_remembered(kept: Kept) -> None:
    """Nor is a question about it: there may be one each few seconds, for months."""
    for mint in range(1, 10):
        kept.board.on_update(kept.token(mint))
        kept.board.on_asked(TokenAsked(KEY.digest, mint, 5.0))
        kept.board.on_update(kept.failure("token_unavailable"))

    assert kept.board.to_report == set()
    assert kept.board._report_since == {}


async def test_a_question_about_another_token_is_ignored(kept: Kept) -> None:
    """It was replaced meanwhile, and would be remembered for ever."""
    kept.board.on_update(kept.token(2))
    kept.serve(sent=3.0)
    kept.board.on_asked(TokenAsked(KEY.digest, 1, 5.0))
    kept.board.on_asked(TokenAsked("unknown", 1, 5.0))
    kept.serve(sent=6.0)

    assert kept.accepted() == [(2, 3.0)]
    assert kept.board._report_since == {}


@pytest.fixture
def kept() -> Kept:
    """Return a board without tokens."""
    return Kept()


async def test_a_token_is_had_without_waiting_until_it_expires(kept: Kept) -> None:
    """What the keeper pushed is there at once, and gone at the very second of its expiry."""
    kept.board.on_update(kept.token(1, seconds=10))
    token = kept.board.get(KEY)
    await kept.clock.advance(10)

    assert token is not None
    assert token.mint == 1
    assert kept.board.get(KEY) is None


async def test_a_token_serves_its_own_key_only(kept: Kept) -> None:
    """A token for one audience is never handed out for another."""
    kept.board.on_update(kept.token(1))

    assert kept.board.get(OTHER) is None


async def test_whoever_waits_gets_the_first_token(kept: Kept) -> None:
    """All requests that came before the first mint go on with it."""
    waiting = [asyncio.ensure_future(kept.board.wait(KEY, until=kept.clock.monotonic() + 5)) for _ in range(3)]
    await settle()
    kept.board.on_update(kept.token(7))

    assert {token.mint for token in await asyncio.gather(*waiting)} == {7}


async def test_a_waiter_that_gives_up_disturbs_nobody(kept: Kept) -> None:
    """Cancelling one of two waiters leaves the other its token."""
    one, other = (asyncio.ensure_future(kept.board.wait(KEY, until=kept.clock.monotonic() + 5)) for _ in range(2))
    await settle()
    one.cancel()
    await settle()
    kept.board.on_update(kept.token(1))

    assert (await other).mint == 1


@pytest.mark.parametrize(("code", "kind"), [("token_refused", TokenRefused), ("token_unavailable", TokenUnavailable)])
async def test_a_shortage_is_told_at_once(kept: Kept, code: str, kind: type[Exception]) -> None:
    """Where the keeper said why there is no token, nobody waits for one."""
    kept.board.on_update(kept.failure(code))

    with pytest.raises(kind):
        await kept.board.wait(KEY, until=kept.clock.monotonic() + 5)


async def test_a_shortage_says_when_to_try_again(kept: Kept) -> None:
    """Retry-After is what is left of the keeper's back-off."""
    kept.board.on_update(kept.failure("token_unavailable", seconds=30))
    await kept.clock.advance(10)

    with pytest.raises(TokenUnavailable) as caught:
        await kept.board.wait(KEY, until=kept.clock.monotonic() + 5)
    assert caught.value.retry_after == 21


async def test_a_token_ends_a_shortage(kept: Kept) -> None:
    """After a successful mint requests are served again."""
    kept.board.on_update(kept.failure("token_refused"))
    kept.board.on_update(kept.token(2))

    assert (await kept.board.wait(KEY, until=kept.clock.monotonic())).mint == 2


async def test_nobody_waits_beyond_its_time(kept: Kept) -> None:
    """A wait that is over before a token came ends in token_unavailable."""
    with pytest.raises(TokenUnavailable):
        await kept.board.wait(KEY, until=kept.clock.monotonic())


async def test_a_token_replaced_meanwhile_costs_no_question(kept: Kept) -> None:
    """A refusal of an older token than the board's is answered by the board."""
    kept.board.on_update(kept.token(1))
    old = kept.board.get(KEY)
    kept.board.on_update(kept.token(2))
    assert old is not None
    newer = await kept.board.replace(old, "payments", "source", until=kept.clock.monotonic() + 5)

    assert newer is not None
    assert newer.mint == 2
    assert kept.sent == []


@pytest.mark.parametrize("outcome", ["replaced", "kept", "failed"])
async def test_a_refusal_is_asked_about_and_answered(kept: Kept, outcome: str) -> None:
    """The keeper hears which mint was refused on which route; only a newer token counts as replaced."""
    kept.board.on_update(kept.token(1))
    old = kept.board.get(KEY)
    assert old is not None
    asking = asyncio.ensure_future(kept.board.replace(old, "payments", "source", until=kept.clock.monotonic() + 5))
    await settle()
    (asked,) = kept.sent
    assert isinstance(asked, TokenRefusal)
    if outcome == "replaced":
        kept.board.on_update(kept.token(2))
    kept.board.on_answer(RefusalAnswer(asked.ask, outcome))
    newer = await asking

    assert (asked.mint, asked.route, asked.key) == (1, "payments", KEY.digest)
    assert (newer.mint if newer else None) == (2 if outcome == "replaced" else None)


def _minted(kept: Kept, mint: int) -> AccessToken:
    kept.board.on_update(kept.token(mint))
    token = kept.board.get(KEY)
    assert token is not None
    return token


async def test_a_refusal_behind_a_request_waits_for_nothing(kept: Kept) -> None:
    """The keeper hears of it as of any other, and says what it says to nobody."""
    token = _minted(kept, 1)
    kept.board.refuse_behind(token, "payments", "source")

    (asked,) = kept.sent
    assert isinstance(asked, TokenRefusal)
    assert (asked.mint, asked.route, asked.key) == (1, "payments", KEY.digest)
    kept.board.on_answer(RefusalAnswer(asked.ask, "replaced"))


async def test_a_replacement_that_is_refused_too_is_told_once(kept: Kept) -> None:
    """However many requests had it: the next mint is to come later, but not ever later."""
    first = _minted(kept, 1)
    for _ in range(3):
        kept.board.refuse_behind(first, "payments", "source")
    second = _minted(kept, 2)
    for token in (second, second, first, second):
        kept.board.refuse_behind(token, "payments", "source")

    assert [one.refused_again for one in kept.sent if isinstance(one, Replayed)] == [True]


def _accepted(kept: Kept, token: AccessToken, *, route: str = "payments", caller: str = "erp") -> None:
    kept.board.accepted(KEY, route, caller, fingerprint=token.fingerprint)


async def test_a_token_is_proven_for_whom_the_bank_took_it(kept: Kept) -> None:
    """By rule and caller, and that very token: what was taken of the one before proves nothing."""
    first = _minted(kept, 1)
    assert not kept.board.proven(KEY, "payments", "erp")
    _accepted(kept, first)
    assert kept.board.proven(KEY, "payments", "erp")
    assert not kept.board.proven(KEY, "payments", "crm")
    assert not kept.board.proven(KEY, "other", "erp")
    second = _minted(kept, 2)
    _accepted(kept, first)
    assert not kept.board.proven(KEY, "payments", "erp")
    _accepted(kept, second)
    assert kept.board.proven(KEY, "payments", "erp")


async def test_a_replacement_that_is_taken_is_told_once(kept: Kept) -> None:
    """Of whichever caller; an answer to the refused token itself says nothing."""
    first = _minted(kept, 1)
    kept.board.refuse_behind(first, "payments", "source")
    _accepted(kept, first)
    second = _minted(kept, 2)
    _accepted(kept, first)
    _accepted(kept, second, route="other")
    assert not any(isinstance(one, Replayed) for one in kept.sent)
    for caller in ("crm", "erp"):
        _accepted(kept, second, caller=caller)

    assert [one.refused_again for one in kept.sent if isinstance(one, Replayed)] == [False]


async def test_nobody_waits_for_a_keeper_that_is_gone(kept: Kept) -> None:
    """A refusal is handed on and a first token given up at once; what is here still serves."""
    kept.board.on_update(kept.token(1))
    old = kept.board.get(KEY)
    assert old is not None
    until = kept.clock.monotonic() + 100
    replacing = asyncio.ensure_future(kept.board.replace(old, "payments", "source", until=until))
    waiting = asyncio.ensure_future(kept.board.wait(OTHER, until=until))
    await settle()
    kept.board.abandon()

    assert await replacing is None
    with pytest.raises(TokenUnavailable):
        await waiting
    assert await kept.board.replace(old, "payments", "source", until=until) is None
    assert kept.board.get(KEY) is old


async def test_tokens_do_not_show_themselves(kept: Kept) -> None:
    """Neither board nor token prints a token's value."""
    kept.board.on_update(kept.token(1))

    assert "value-1" not in repr(kept.board) + repr(kept.board.get(KEY))
