"""What a worker knows of the migrations, and of its own requests that a retry may follow."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from proxy.migration.former import ANY_WEIGHT, Keyed, former_of
from proxy.migration.in_flight import LINGER_SECONDS, KeyInFlight
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_rows import Pins
from proxy.migration.side import Policy, Side
from proxy.migration.side_cache import SideCache
from proxy.migration.side_settings import SideSettings

NOW = 1_700_000_000.0
POLICY = Policy(name="payments", sticky="caller", methods=frozenset(), pinned={}, fallback=True, sides="a@ to b@")


def tell(board: SideCache, weight: int, *, readable: bool = True, former: Iterable[Any] = (), **more: Any) -> None:
    """Let *board* have the settings of one migration."""
    settings = SideSettings(weight, 1, former=former_of(former), **more)
    board.set_states({"payments": settings}, readable=readable)


def pins(*rows: tuple[int, str, float], reason: Reason = Reason.UNKNOWN) -> Pins:
    """Return pins: digest, side, until."""
    return {f"{number:016x}": RetryPin(Side(side), "bank", until, reason=reason) for number, side, until in rows}


def keyed(number: int = 1, *, caller: str = "erp") -> Keyed:
    """Return what a request with a key is known by."""
    return Keyed(digest=f"{number:016x}", caller=caller, method="POST", header=None)


def received(weight: int, **more: Any) -> SideCache:
    """Return a board that has heard of *weight*."""
    board = SideCache({"payments": POLICY})
    tell(board, weight, **more)
    return board


def enter(board: SideCache, number: int = 1, side: Side = Side.MODERN) -> KeyInFlight:
    """Let a request go to *side*."""
    return board.enter(keyed(number), POLICY, side=side, upstream="bank", now=NOW)


def doubt(board: SideCache, side: Side = Side.LEGACY, *, number: int = 1, caller: str = "erp") -> str:
    """Return what speaks against sending a request with a key to *side*."""
    return board.doubt(POLICY, keyed(number, caller=caller), side=side, now=NOW)


def test_before_anything_is_heard() -> None:
    """Everything is legacy, and nobody may rely on there being no pin."""
    board = SideCache()
    assert board.weight("payments") == 0
    assert not board.guard_pinned("payments", "erp")
    assert board.earlier_try(keyed().digest, NOW) is None
    assert "not told" in doubt(board)


def test_the_state_is_what_was_heard_last() -> None:
    """A message has all there is: what it no longer names is gone."""
    board = received(30, guard_pinned=("erp",))
    assert (board.weight("payments"), board.readable, board.received) == (30, True, True)
    assert board.guard_pinned("payments", "erp")
    assert not board.guard_pinned("payments", "other")
    assert board.weight("balances") == 0

    tell(board, 0, readable=False)
    assert (board.weight("payments"), board.readable) == (0, False)
    assert not board.guard_pinned("payments", "erp")


def test_a_pin_holds_until_its_end() -> None:
    """To the second; then it is as if it had never been."""
    board = SideCache()
    board.add_pins(pins((1, "modern", NOW + 10)), NOW)
    assert board.earlier_try(f"{1:016x}", NOW + 9.9) == (Side.MODERN, "bank")
    assert board.earlier_try(f"{2:016x}", NOW) is None
    assert board.earlier_try(f"{1:016x}", NOW + 10) is None


def test_a_later_pin_takes_the_place_of_an_earlier_one() -> None:
    """What other messages brought stays."""
    board = SideCache()
    board.add_pins(pins((1, "modern", NOW + 10), (2, "legacy", NOW + 10)), NOW)
    board.add_pins(pins((1, "legacy", NOW + 20)), NOW)
    assert [board.earlier_try(f"{number:016x}", NOW) for number in (1, 2)] == [(Side.LEGACY, "bank")] * 2


def test_what_has_ended_is_forgotten() -> None:
    """A day's pins are all that is held, however many come."""
    board = SideCache()
    for number in range(1000):
        board.add_pins(pins((number, "modern", NOW + number * 3600 + PIN_SECONDS)), NOW + number * 3600)
    board._pins.forget_ended(NOW + 999 * 3600)
    assert repr(board) == "<SideCache of nothing, 24 pins>"


def test_a_key_in_flight_is_followed() -> None:
    """Until its request has ended and its caller knows how, and for as long as the answer may be on its way."""
    board = received(0)
    first, second = enter(board), enter(board)
    assert first is second
    board.leave(first, sent=True, uncertain=False, now=NOW)
    assert board.earlier_try(keyed().digest, NOW) == (Side.MODERN, "bank")
    board.leave(second, sent=True, uncertain=False, now=NOW)
    assert board.earlier_try(keyed().digest, NOW + LINGER_SECONDS - 1) == (Side.MODERN, "bank")
    assert board.earlier_try(keyed().digest, NOW + LINGER_SECONDS) is None


def test_a_key_of_which_nothing_was_sent_is_forgotten() -> None:
    """A retry goes by the weight."""
    board = received(0)
    board.leave(enter(board), sent=False, uncertain=False, now=NOW)
    assert board.earlier_try(keyed().digest, NOW) is None
    assert not len(board._keys)


@pytest.mark.parametrize("pinned_first", [True, False])
def test_an_uncertain_end_is_kept_until_there_is_a_pin(*, pinned_first: bool) -> None:
    """However late that is; then it takes no memory of its own any more."""
    board = received(0)
    key = enter(board)
    message = pins((1, "modern", NOW + PIN_SECONDS))
    if pinned_first:
        board.add_pins(message, NOW)
    board.leave(key, sent=True, uncertain=True, now=NOW)
    assert board.earlier_try(keyed().digest, NOW + 3600) == (Side.MODERN, "bank")
    board.add_pins(message, NOW)
    assert not len(board._keys)
    assert board.earlier_try(keyed().digest, NOW + 3600) == (Side.MODERN, "bank")


def test_lingering_keys_take_no_memory_for_long() -> None:
    """Each request that comes forgets those whose time is over; one that was used again meanwhile stays."""
    board = received(0)
    for number in range(100):
        board.leave(enter(board, number), sent=True, uncertain=False, now=NOW)
    again = board.enter(keyed(7), POLICY, side=Side.MODERN, upstream="bank", now=NOW + 5)
    board.enter(keyed(500), POLICY, side=Side.MODERN, upstream="bank", now=NOW + LINGER_SECONDS)
    assert {key.keyed.digest for key in board._keys} == {again.keyed.digest, f"{500:016x}"}


def test_a_change_tells_which_keys_it_moves() -> None:
    """Those in flight, ended a moment ago or uncertain, once each; what has a pin already is known."""
    board = received(100)
    enter(board, 1)
    board.leave(enter(board, 2), sent=True, uncertain=False, now=NOW)
    board.leave(enter(board, 3), sent=True, uncertain=True, now=NOW)
    enter(board, 4, Side.LEGACY)
    board.add_pins(pins((5, "modern", NOW + PIN_SECONDS)), NOW)
    enter(board, 5)
    tell(board, 0)

    moving = board.moving(NOW)

    assert [(digest, pin.side, pin.upstream, pin.migration) for digest, pin in moving.items()] == [
        (f"{number:016x}", "modern", "bank", "payments") for number in (1, 2, 3)
    ]
    tell(board, 100)
    assert [(digest, pin.side) for digest, pin in board.moving(NOW).items()] == [(f"{4:016x}", "legacy")]


def test_until_a_change_is_settled_a_request_that_it_moves_waits() -> None:
    """All others are served; once all processes have told what they have in flight, so is that one."""
    board = received(0, former=[[100, "", NOW, False]])
    assert "changes at this moment" in doubt(board)
    assert doubt(board, number=2, caller="other")
    assert not received(0, former=[[0, "", NOW, False]]).doubt(POLICY, keyed(), side=Side.LEGACY, now=NOW)
    tell(board, 0, former=[[100, "", NOW, True]])
    assert not doubt(board)


def test_a_hold_of_the_guard_concerns_its_caller_only() -> None:
    """The others keep their side."""
    board = received(100, guard_pinned=("erp",), former=[[0, "erp", NOW, False]])
    assert doubt(board)
    assert not doubt(board, Side.MODERN, caller="other")


@pytest.mark.parametrize(
    ("former", "why"),
    [
        ([], ""),
        ([[0, "", NOW - 60, True]], ""),
        ([[100, "", NOW - 60, True]], "can't be read"),
        ([[100, "", NOW - PIN_SECONDS - 60, True]], ""),
        ([[ANY_WEIGHT, "", NOW - 60, True]], "can't be read"),
        ([[0, "erp", NOW - 60, True]], "can't be read"),
        ([[0, "other", NOW - 60, True]], ""),
    ],
    ids=["stood still", "same side", "moved", "moved long ago", "another table", "was held", "another was held"],
)
def test_without_pins_only_what_may_have_moved_is_refused(former: list[Any], why: str) -> None:
    """A keeper or a Redis that is away is no outage where no side has changed within a day."""
    board = received(0, former=former)
    assert not doubt(board)
    tell(board, 0, former=former, readable=False)
    assert why in doubt(board)
    assert bool(doubt(board)) == bool(why)


def test_a_worker_without_keeper_can_not_read_pins_and_soon_sends_nothing_with_a_key() -> None:
    """A new keeper reads its journal once: what is sent later would be known to nobody."""
    board = received(0, former=[[100, "", NOW, True]])
    assert not doubt(board)
    board.orphaned(50.0)
    assert doubt(board)
    tell(board, 0, former=[[100, "", NOW, True]])
    assert doubt(board)
    assert [board.is_too_late(at) for at in (50.1, 50.4, 50.6, 99.0)] == [False, False, True, True]
    assert not received(0).is_too_late(99.0)


def test_a_replica_that_was_frozen_sends_nothing_by_what_it_knew() -> None:
    """Until the keeper has heard of the others again; alone, or while Redis is away, there is no such bound."""
    board = received(0)
    before = Keyed(digest=f"{1:016x}", caller="erp", method="POST", header=None, silences=board.silences)
    assert not board.is_out_of_contact(before, 1e9)
    board.set_contact(50.0, 45.0)
    board.set_contact(60.0, 50.0)
    assert [board.is_out_of_contact(before, at) for at in (49.0, 60.0, 60.1)] == [False, False, True]

    board.set_contact(70.0, 65.0)
    assert board.is_out_of_contact(before, 65.0)  # it was chosen by what was known before
    assert not board.is_out_of_contact(replace(before, silences=board.silences), 65.0)
    board.set_contact(0.0, 69.0)
    assert not board.is_out_of_contact(replace(before, silences=board.silences), 1e9)


def test_a_table_that_replaces_this_one_moves_whom_it_moves() -> None:
    """A worker of the old table serves on whom both tables send to the same side."""
    successor = Policy(
        name="payments",
        sticky="caller",
        methods=frozenset(),
        pinned={"erp": Side.MODERN},
        fallback=True,
        sides="a@ to b@",
    )
    board = received(0, policies=(POLICY,))
    enter(board, 1, Side.LEGACY)
    assert not doubt(board, number=2)
    tell(board, 0, policies=(POLICY, successor))
    assert "table" in doubt(board, number=2)
    assert not doubt(board, number=2, caller="other")
    assert [(digest, pin.side) for digest, pin in board.moving(NOW).items()] == [(f"{1:016x}", "legacy")]

    others = Policy(name="payments", sticky="caller", methods=frozenset(), pinned={}, fallback=True, sides="a@ to c@")
    tell(board, 0, policies=(others,))
    assert doubt(board, number=2, caller="other")


def test_a_fallback_needs_to_be_alone() -> None:
    """A second request with its key, a retry that may be done already, or a claim under way speak against it."""
    board = received(100)
    key = enter(board)
    assert board.begin_claim(key)
    assert not board.begin_claim(key)
    assert "falling back" in board.claim_doubt(keyed().digest, NOW)
    board.end_claim(key, side=Side.LEGACY, upstream="old")
    assert not board.claim_doubt(keyed().digest, NOW)
    assert board.earlier_try(keyed().digest, NOW) == (Side.LEGACY, "old")

    enter(board)
    assert not board.begin_claim(key)


def test_a_claim_of_another_worker_is_refused_where_its_key_is_in_flight() -> None:
    """Else nobody sends a request with the key until there is a pin, or nothing has come of it."""
    board = received(100)
    pin = (keyed().digest, RetryPin(Side.LEGACY, "bank", NOW + PIN_SECONDS, "payments"))
    enter(board)
    assert not board.answer_claim(*pin, NOW)
    other = (keyed(2).digest, RetryPin(Side.LEGACY, "bank", NOW + PIN_SECONDS, "payments"))
    assert board.answer_claim(*other, NOW)
    assert board.claim_doubt(keyed(2).digest, NOW)
    board.drop_claim(keyed(2).digest)
    assert not board.claim_doubt(keyed(2).digest, NOW)
    assert board.answer_claim(*other, NOW)
    board.add_pins(dict([other]), NOW)
    assert not board.claim_doubt(keyed(2).digest, NOW)
    assert board.answer_claim(*other, NOW)
    assert not board.claim_doubt(keyed(3).digest, NOW)


def test_a_pin_that_a_change_made_is_no_objection_to_a_fallback() -> None:
    """It is that of the try which is to move; who has sent one itself objects, also when that has ended just now."""
    legacy = (keyed().digest, RetryPin(Side.LEGACY, "old", NOW + PIN_SECONDS, "payments", Reason.FALLBACK))
    moved = pins((1, "modern", NOW + PIN_SECONDS), reason=Reason.IN_FLIGHT)
    board = received(0)
    board.add_pins(moved, NOW)
    assert board.earlier_try(keyed().digest, NOW) == (Side.MODERN, "bank")
    assert board.answer_claim(*legacy, NOW)

    sender = received(0)
    sender.leave(enter(sender), sent=True, uncertain=False, now=NOW)
    sender.add_pins(moved, NOW)
    assert not sender.answer_claim(*legacy, NOW)
    assert sender.answer_claim(*legacy, NOW + LINGER_SECONDS)


def test_an_uncertain_end_is_not_forgotten_for_a_pin_that_ends_soon() -> None:
    """The pin of its own is on its way."""
    board = received(0)
    key = enter(board)
    moved = pins((1, "modern", NOW + PIN_SECONDS), reason=Reason.IN_FLIGHT)
    board.add_pins(moved, NOW)
    assert board.leave(key, sent=True, uncertain=True, now=NOW) is None
    board.add_pins(moved, NOW)
    assert len(board._keys) == 1
    board.add_pins(pins((1, "modern", NOW + PIN_SECONDS)), NOW)
    assert not len(board._keys)


def test_the_pin_of_a_fallback_ends_with_it() -> None:
    """With the reason that it has: a lighter one would change nothing."""
    board = received(100)
    key = enter(board)
    tell(board, 0)
    assert len(board.moving(NOW)) == 1
    assert board.begin_claim(key)
    board.end_claim(key, side=Side.LEGACY, upstream="old")
    pin = board.leave(key, sent=True, uncertain=False, now=NOW)
    assert pin == RetryPin(Side.LEGACY, "old", NOW + LINGER_SECONDS, "payments", Reason.FALLBACK)


def test_a_fallback_that_was_not_agreed_on_sends_nothing_more_with_its_key() -> None:
    """The answer may only have been late, and the others hold the pin: who comes while the request ends is refused."""
    board = received(100)
    key = enter(board)
    assert board.begin_claim(key)
    assert board.claim_doubt(keyed().digest, NOW)
    board.leave(key, sent=False, uncertain=False, now=NOW)
    assert not board.claim_doubt(keyed().digest, NOW)
    assert not len(board._keys)


def test_a_pin_that_another_process_shortened_is_asked_for_again() -> None:
    """Its request has ended, ours has not: a third one must still find where both went."""
    board = received(100)
    key = enter(board, side=Side.LEGACY)
    short = pins((1, "legacy", NOW + LINGER_SECONDS), reason=Reason.IN_FLIGHT)
    elsewhere = pins((1, "modern", NOW + LINGER_SECONDS), reason=Reason.IN_FLIGHT)
    long = pins((1, "legacy", NOW + PIN_SECONDS), reason=Reason.IN_FLIGHT)

    assert board.shortened(short, NOW) == [
        (key.keyed.digest, RetryPin(Side.LEGACY, "bank", NOW + PIN_SECONDS, "payments"))
    ]
    assert board.shortened(elsewhere, NOW) == []
    assert board.shortened(long, NOW) == []
    board.leave(key, sent=True, uncertain=False, now=NOW)
    assert board.shortened(short, NOW) == []


def test_a_pin_of_a_passing_reason_is_too_short() -> None:
    """So is any that ends before a request may."""
    board = received(100)
    key = enter(board, side=Side.LEGACY)
    assert not board.too_short(key, NOW)
    for reason, until, short in (
        (Reason.IN_FLIGHT, NOW + PIN_SECONDS, True),
        (Reason.FALLBACK, NOW + 5, True),
        (Reason.UNKNOWN, NOW + 60, True),
        (Reason.UNKNOWN, NOW + PIN_SECONDS, False),
        (Reason.ANSWERED, NOW + PIN_SECONDS, False),
    ):
        board.add_pins(pins((1, "legacy", until), reason=reason), NOW)
        assert board.too_short(key, NOW) is short
