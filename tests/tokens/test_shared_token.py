"""What a replica does with a shared token: adopt it or mint, wait or not, share or stop; all pure."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.secret import Secret
from proxy.tokens.shared_token import (
    SKEW_SECONDS,
    AddressBinding,
    SharedToken,
    SharedTokenUnusable,
    Step,
    decode,
    encode,
    next_step,
    patience,
)
from proxy.tokens.token import AccessToken, fingerprint
from proxy.tokens.token_share import Obtained
from tests.tokens.support import KEY

SHARED = SharedToken(value=Secret("t1"), lifetime=100, ends=5000, ends_wall=9000, minter="a-1")
NOW = 1000.0


def found(*, minted: float = NOW, value: str = "t2", lifetime: float = 100) -> Obtained:
    """Return a shared token as it would be here."""
    return Obtained(value=Secret(value), lifetime=lifetime, minted=minted, minter="a-1")


def held(*, expires: float, value: str = "t1") -> AccessToken:
    """Return ours."""
    return AccessToken(
        key=KEY,
        mint=1,
        value=Secret(value),
        origins=frozenset(),
        minted=expires - 90,
        stale_at=expires - 10,
        expires=expires,
    )


def test_what_is_encoded_is_decoded() -> None:
    """All of it; the token is in no repr."""
    assert decode(encode(SHARED)) == SHARED
    assert "t1" not in repr(SHARED)


@given(st.binary(max_size=100))
def test_nothing_else_is_decoded(data: bytes) -> None:
    """What can be decrypted may still be of another payproxy."""
    with pytest.raises(SharedTokenUnusable):
        decode(data)


HUGE = encode(SHARED).replace(b"5000", b"1" + b"0" * 400)


@pytest.mark.parametrize("data", [b"[" * 100_000, HUGE], ids=["deep", "huge"])
def test_nor_what_breaks_a_reader_of_json(data: bytes) -> None:
    """Who can write to the Redis must not end a keeper by it."""
    with pytest.raises(SharedTokenUnusable):
        decode(data)


@pytest.mark.parametrize("change", [{"token": ""}, {"lifetime": 0}, {"lifetime": float("nan")}, {"lifetime": 1e9}])
def test_a_token_that_makes_no_sense_is_not_decoded(change: dict[str, object]) -> None:
    """Neither one without end, nor none."""
    with pytest.raises(SharedTokenUnusable):
        decode(json.dumps(json.loads(encode(SHARED)) | change).encode())


@given(st.floats(-SKEW_SECONDS, SKEW_SECONDS))
def test_the_clock_of_redis_decides_while_ours_is_nearly_right(skew: float) -> None:
    """A replica whose clock is wrong by some seconds neither loses life of a token nor adds to it."""
    assert SHARED.left(now=4980, now_wall=8980 + skew) == 20


def test_no_clock_alone_can_lengthen_a_life() -> None:
    """Redis' clock set back is limited by ours, and both by the lifetime."""
    assert SHARED.left(now=1000, now_wall=8980) == 20 + SKEW_SECONDS
    assert SHARED.left(now=1000, now_wall=1000) == 100
    assert SHARED.left(now=4980, now_wall=1000) == 20


def test_the_end_by_a_clock_that_was_set_back() -> None:
    """Ours tells it, exactly; a difference that clocks of hosts have anyway changes nothing."""
    assert SHARED.ends_by(now=4980 - SKEW_SECONDS, now_wall=8980) == 5000
    assert SHARED.ends_by(now=5980, now_wall=8980) == 5000
    assert SHARED.ends_by(now=3980, now_wall=8980) == 4000


@pytest.mark.parametrize(
    ("shared", "current", "newer", "step"),
    [
        (None, None, False, Step.MINT),
        (None, held(expires=NOW + 50), False, Step.MINT),
        (found(), None, True, Step.ADOPT),
        (found(minted=NOW - 89), None, True, Step.ADOPT),
        (found(minted=NOW - 90), None, True, Step.MINT),
        (found(), held(expires=NOW + 50), True, Step.ADOPT),
        (found(), held(expires=NOW + 50), False, Step.MINT),
        (found(minted=NOW - 81), held(expires=NOW + 5), True, Step.MINT),
        (found(value="bad"), None, True, Step.MINT),
    ],
    ids=[
        "nothing is shared",
        "nothing is shared, ours is to be renewed",
        "we have none",
        "we have none, and it ends soon",
        "it has ended",
        "it is newer than ours",
        "it is ours, or older",
        "it is to be renewed itself",
        "the bank has refused it here",
    ],
)
def test_adopt_or_mint(shared: Obtained | None, current: AccessToken | None, *, newer: bool, step: Step) -> None:
    """A newer token of another replica that can still be used for a while, and that was not refused here."""
    assert next_step(shared, current=current, newer=newer, refused=[fingerprint("bad")], now=NOW) is step


def test_whoever_has_a_token_can_wait_for_another_replicas_mint() -> None:
    """Until its own mint would come too late; who has none waits five seconds."""
    assert patience(None, now=NOW) == 5
    assert patience(held(expires=NOW + 600), now=NOW) == 590
    assert patience(held(expires=NOW + 2), now=NOW) == 5


def binding(*events: str, at: float = NOW) -> AddressBinding:
    """Return a binding after *events*: f and F another replica's token refused and accepted, o and O ours."""
    made = AddressBinding()
    for event in "".join(events):
        match event:
            case "f":
                made.foreign_refused(now=at)
            case "F":
                made.foreign_worked()
            case "o":
                made.own_refused(now=at)
            case "O":
                made.own_accepted(now=at)
    return made


@pytest.mark.parametrize(
    ("events", "bound"),
    [("ffO", True), ("fOfO", True), ("fO", False), ("fFfO", False), ("ffoO", False), ("OOO", False), ("ffOF", True)],
)
def test_tokens_are_bound_to_an_address(events: str, bound: bool) -> None:  # noqa: FBT001
    """Two of other replicas were refused, none of them worked, and ours is accepted."""
    made = binding(events)

    assert made.bound is bound
    assert made.suspected(now=NOW) is bound


def test_two_refusals_far_apart_say_nothing() -> None:
    """Each token was revoked before its first use here, as in two nights."""
    made = binding("f", at=NOW)
    made.foreign_refused(now=NOW + 3600)

    assert not made.suspected(now=NOW + 3600)


def test_a_suspicion_that_nothing_decides_ends() -> None:
    """The refusal of a request that can't be sent again is followed by no report: sharing was off from then on."""
    made = binding("ff")

    assert made.suspected(now=NOW + 3599)
    assert not made.suspected(now=NOW + 3600)
    assert not made.own_accepted(now=NOW + 3600)


def test_reprs_are_lines_for_a_log() -> None:
    """How far the suspicion is."""
    assert repr(binding("f")) == "<AddressBinding 1 refusals>"
    assert repr(binding("ffO")) == "<AddressBinding bound>"
    assert replace(SHARED, value=Secret("x")).fingerprint == fingerprint("x")
