"""What a worker knows of the migrations."""

from typing import Any

from proxy.migration.board import MigrationBoard
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.side import Side

NOW = 1_700_000_000.0


def states(weight: int, *, version: int = 1, held: tuple[str, ...] = (), readable: bool = True) -> dict[str, Any]:
    """Return the keeper's message about one migration."""
    state = {"weight": weight, "version": version, "guard_pinned": list(held)}
    return {"type": "migrations", "states": {"payments": state}, "readable": readable}


def pins(*rows: tuple[str, str, float]) -> dict[str, Any]:
    """Return the keeper's message about pins: digest, side, until."""
    return {"type": "pins", "pins": [[digest, side, "bank", until] for digest, side, until in rows], "serial": 1}


def test_before_anything_is_heard() -> None:
    """Everything is legacy, and nobody may rely on there being no pin."""
    board = MigrationBoard()
    assert board.weight("payments") == 0
    assert not board.moved("payments")
    assert not board.guard_pinned("payments", "erp")
    assert not board.readable
    assert not board.heard
    assert board.retry_pin("d", NOW) is None


def test_the_state_is_what_was_heard_last() -> None:
    """A message has all there is: what it no longer names is gone."""
    board = MigrationBoard()
    board.hear(states(30, held=("erp",)))
    assert (board.weight("payments"), board.moved("payments"), board.readable, board.heard) == (30, True, True, True)
    assert board.guard_pinned("payments", "erp")
    assert not board.guard_pinned("payments", "other")
    assert board.weight("balances") == 0

    board.hear(states(0, version=0, readable=False))
    assert (board.weight("payments"), board.moved("payments"), board.readable) == (0, False, False)
    assert not board.guard_pinned("payments", "erp")


def test_a_pin_holds_until_its_end() -> None:
    """To the second; then it is as if it had never been."""
    board = MigrationBoard()
    board.hear(pins(("d", "modern", NOW + 10)))
    assert board.retry_pin("d", NOW + 9.9) == RetryPin(Side.MODERN, "bank", NOW + 10)
    assert board.retry_pin("e", NOW) is None
    assert board.retry_pin("d", NOW + 10) is None


def test_pins_come_one_by_one_and_all_at_once() -> None:
    """A later message adds; the same digest takes the later side."""
    board = MigrationBoard()
    board.hear(pins(("a", "modern", NOW + 10), ("b", "legacy", NOW + 10)))
    board.hear(pins(("a", "legacy", NOW + 20), ("c", "modern", NOW + 20)))
    sides = {digest: pin.side for digest in "abc" if (pin := board.retry_pin(digest, NOW))}
    assert sides == {"a": Side.LEGACY, "b": Side.LEGACY, "c": Side.MODERN}


def test_what_has_ended_is_forgotten() -> None:
    """A day's pins are all that is held, however many come."""
    board = MigrationBoard()
    for number in range(1000):
        board.hear(pins((f"d{number}", "modern", NOW + number * 3600 + PIN_SECONDS)))
    assert len(board._pins) == 24
    assert repr(board) == "<MigrationBoard of nothing, 24 pins>"


def test_other_messages_are_not_for_it() -> None:
    """What it does not know changes nothing."""
    board = MigrationBoard()
    board.hear(states(30))
    board.hear({"type": "pin_answer", "ask": 1, "kept": True})
    assert repr(board) == "<MigrationBoard payments 30, 0 pins>"
