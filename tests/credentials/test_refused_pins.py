"""What is remembered of refused PINs, and that logins wait for each other."""

import json
import threading

import pytest

from proxy.credentials.refused_pins import ALL_TOKENS, Refusal, RefusedPins, TurnNotGiven
from proxy.entropy import SystemEntropy
from proxy.secret import Secret

PIN = Secret("4711-wrong")
REFUSAL = Refusal(what="the PIN is wrong", fix="correct it", flagged=True)


@pytest.fixture
def pins() -> RefusedPins:
    """A memory of its own."""
    return RefusedPins(entropy=SystemEntropy())


def test_another_process_knows_them(pins: RefusedPins) -> None:
    """By the same key; what it finds out comes back, and no PIN is in it."""
    other = RefusedPins(entropy=SystemEntropy())
    pins.add(pins.mark("one", PIN), REFUSAL)
    state = json.dumps(pins.state())
    other.take(json.loads(state))
    other.add(other.mark("two", PIN), REFUSAL)
    pins.take(json.loads(json.dumps(other.state())))

    assert other.refusal(other.mark("one", PIN)) == pins.refusal(pins.mark("two", PIN)) == REFUSAL
    assert pins.refusal(pins.mark("three", PIN)) is None
    assert pins.refusal(pins.mark("one", Secret("4711"))) is None
    assert "4711" not in state + repr(pins)
    pins.forget(pins.mark("one", PIN))
    assert pins.refusal(pins.mark("one", PIN)) is None


@pytest.mark.parametrize(
    ("flagged_then", "flagged_now", "lasts"), [(True, True, True), (True, False, False), (False, False, True)]
)
def test_how_long_a_refusal_lasts(*, flagged_then: bool, flagged_now: bool, lasts: bool) -> None:
    """Until flags that were there are gone."""
    refusal = Refusal(what="", fix="", flagged=flagged_then)

    assert refusal.lasts(flagged=flagged_now) is lasts


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [("one", "one", True), ("one", "two", False), ("one", ALL_TOKENS, True), (ALL_TOKENS, "one", True)],
)
def test_who_waits_for_whom(pins: RefusedPins, first: str, second: str, *, waits: bool) -> None:
    """One login to a token at a time; whoever asks for all tokens waits for all, and they for him."""
    asked = threading.Event()
    entered = threading.Event()

    def given_up() -> bool:
        asked.set()
        return False

    def enter() -> None:
        with pins.turn(second, given_up=given_up):
            entered.set()

    thread = threading.Thread(target=enter)
    with pins.turn(first, given_up=lambda: False):
        thread.start()
        assert (asked if waits else entered).wait(60)
        assert entered.is_set() is not waits
    thread.join(60)
    assert entered.is_set()


def test_waiting_ends_when_it_is_given_up(pins: RefusedPins) -> None:
    """A token that hangs must not keep the keys of others, nor a stop."""
    with pins.turn("one", given_up=lambda: False), pytest.raises(TurnNotGiven), pins.turn("one", given_up=lambda: True):
        pass
    with pins.turn("one", given_up=lambda: True):
        pass
