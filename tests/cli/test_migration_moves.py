from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli.migration_moves import Moves, moves
from proxy.migration.side import point
from tests.keeper.migrating import PAYMENTS

CALLERS = [f"c{number}" for number in range(40)]
BELOW_HALF = sorted(caller for caller in CALLERS if point("payments", caller) < 0.5)


def moved(old: int, new: int, **changes: Any) -> Moves:
    """Return what a change of the weight does to forty callers of one request each."""
    values = replace(PAYMENTS, **{name: changes.pop(name) for name in list(changes) if hasattr(PAYMENTS, name)})
    asked: dict[str, Any] = {
        "held": (),
        "released": (),
        "requests": dict.fromkeys(CALLERS, 1),
        "callers": CALLERS,
    }
    return moves(values, old=old, new=new, **(asked | changes))


def test_callers_move_by_their_points() -> None:
    """The very decision of the data path, and the share of requests that goes with it."""
    what = moved(0, 50)

    assert list(what.to_modern) == BELOW_HALF
    assert what.to_legacy == ()
    assert (what.before, round(what.after, 6)) == (0.0, len(BELOW_HALF) / 40)
    assert list(moved(50, 0).to_legacy) == BELOW_HALF


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3).map(sorted))
@settings(max_examples=50)
def test_growing_weights_move_nobody_back(weights: list[int]) -> None:
    """Who moves in two steps is who moves in one."""
    low, middle, high = weights
    steps = [moved(low, middle), moved(middle, high)]

    assert not any(step.to_legacy for step in steps)
    assert sorted([*steps[0].to_modern, *steps[1].to_modern]) == sorted(moved(low, high).to_modern)


def test_who_is_pinned_or_held_stays() -> None:
    """Until the guard's hold is released: then even the same weight moves somebody."""
    caller = BELOW_HALF[0]

    assert caller not in moved(0, 50, held=[caller]).to_modern
    assert caller not in moved(0, 50, pinned_legacy=(caller,)).to_modern
    assert caller not in moved(0, 50, pinned_modern=(caller,)).to_modern
    assert moved(50, 50, held=[caller], released=[caller]).to_modern == (caller,)


@pytest.mark.parametrize(("old", "new"), [(10, 10), (0, 0)])
def test_the_same_weight_moves_nobody(old: int, new: int) -> None:
    """Neither callers nor requests."""
    assert moved(old, new).nobody
    assert moved(old, new, sticky="request", methods=("GET",)).nobody


def test_a_weight_between_two_callers_moves_nobody() -> None:
    """One caller has one point: most weights do nothing to it."""
    only = moves(PAYMENTS, old=0, new=100, held=(), released=(), requests={}, callers=["erp"])
    place = point("payments", "erp") * 100

    assert only.to_modern == ("erp",)
    assert moves(PAYMENTS, old=0, new=int(place) - 1, held=(), released=(), requests={"erp": 9}, callers=["erp"]).nobody


@pytest.mark.parametrize(
    ("changes", "spread"),
    [({"sticky": "request", "methods": ("GET",)}, "GET requests"), ({"sticky": "header:merchantId"}, "merchantId")],
    ids=str,
)
def test_single_requests_are_spread(changes: dict[str, Any], spread: str) -> None:
    """Nobody moves as a whole, except to 0 and 100; every change of the weight moves something."""
    what = moved(10, 40, **changes)

    assert (what.to_modern, what.to_legacy, what.nobody) == ((), (), False)
    assert spread in what.spread
    assert (round(what.before, 6), round(what.after, 6)) == (0.1, 0.4)
    assert len(moved(0, 100, **changes).to_modern) == 40


def test_callers_weigh_by_their_requests() -> None:
    """The share is one of requests; without any, each caller counts alike."""
    busy = BELOW_HALF[0]
    idle = next(caller for caller in CALLERS if caller not in BELOW_HALF)

    assert round(moved(0, 50, requests={busy: 3, idle: 1}, callers=[]).after, 6) == 0.75
    assert round(moved(0, 50, requests={}, callers=[busy, idle]).after, 6) == 0.5
