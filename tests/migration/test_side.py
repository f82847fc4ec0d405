"""The side of a request, for any caller, weight and key."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.side import Choice, Policy, Side, choose_side, point

KEYS = st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text)
WEIGHTS = st.integers(0, 100)
METHODS = st.sampled_from(["GET", "POST", "DELETE"])
STICKY = st.sampled_from(["caller", "request", "header:X-Batch"])


def policy(**changes: Any) -> Policy:
    """Return a policy that spreads by caller and pins nobody."""
    values: dict[str, Any] = {
        "name": "payments",
        "sticky": "caller",
        "methods": frozenset({"GET"}),
        "pinned": {},
        "fallback": True,
    }
    return Policy(**{**values, **changes})


def choose(it: Policy, weight: int, **changes: Any) -> Choice:
    """Return the choice for a GET of erp's, in which nothing is particular but *changes*."""
    values: dict[str, Any] = {
        "caller": "erp",
        "method": "GET",
        "header": None,
        "request_id": "r1",
        "guard_pinned": False,
        "retry": None,
    }
    return choose_side(it, weight=weight, **{**values, **changes})


@given(caller=KEYS, header=KEYS, request_id=KEYS, sticky=STICKY, method=METHODS)
def test_raising_the_weight_moves_nobody_back(
    *, caller: str, header: str, request_id: str, sticky: str, method: str
) -> None:
    """Whoever is modern at a weight is modern at every greater one: from 0 to 100 the side changes once."""
    it = policy(sticky=sticky)
    asked = {"caller": caller, "header": header, "request_id": request_id, "method": method}
    sides = [choose(it, weight, **asked).side for weight in range(101)]
    assert sides == sorted(sides, key=[Side.LEGACY, Side.MODERN].index)


@given(KEYS, st.one_of(st.none(), KEYS), STICKY, METHODS)
def test_0_is_legacy_and_100_is_modern(caller: str, header: str | None, sticky: str, method: str) -> None:
    """Without a pin there is no exception, whatever the key, and also without one."""
    it = policy(sticky=sticky)
    assert choose(it, 0, caller=caller, header=header, method=method).side is Side.LEGACY
    assert choose(it, 100, caller=caller, header=header, method=method).side is Side.MODERN


@given(KEYS, WEIGHTS, st.sampled_from(list(Side)), STICKY)
def test_a_pin_beats_the_weight(caller: str, weight: int, side: Side, sticky: str) -> None:
    """A configured pin holds at every weight, and only for its caller."""
    it = policy(sticky=sticky, pinned={caller: side})
    found = choose(it, weight, caller=caller)
    assert found.side is side
    assert "pinned" in found.why
    other = choose(it, weight, caller=caller + "x")
    assert other == choose(policy(sticky=sticky), weight, caller=caller + "x")


@given(KEYS, WEIGHTS, st.sampled_from([Side.MODERN, Side.LEGACY]))
def test_the_guard_beats_a_pin(caller: str, weight: int, pinned: Side) -> None:
    """Whom the guard holds is on legacy, also one that is pinned to modern."""
    found = choose(policy(pinned={caller: pinned}), weight, caller=caller, guard_pinned=True)
    assert found.side is Side.LEGACY
    assert "guard" in found.why


@given(
    caller=KEYS, weight=WEIGHTS, guard_pinned=st.booleans(), pinned=st.sampled_from(Side), went=st.sampled_from(Side)
)
def test_an_earlier_try_beats_everything(
    *, caller: str, weight: int, guard_pinned: bool, pinned: Side, went: Side
) -> None:
    """A retry goes where the first try went: the bank may know its key there only."""
    it = policy(pinned={caller: pinned})
    found = choose(it, weight, caller=caller, guard_pinned=guard_pinned, retry=went)
    assert found.side is went
    assert "earlier try" in found.why


@given(WEIGHTS.filter(lambda weight: weight < 100), KEYS)
def test_without_its_header_a_request_is_legacy_until_100(weight: int, caller: str) -> None:
    """What can't be told apart must not be spread, and the why says what is missing."""
    found = choose(policy(sticky="header:X-Batch"), weight, caller=caller)
    assert found.side is Side.LEGACY
    assert "X-Batch" in found.why or weight == 0


@pytest.mark.parametrize("weight", [1, 10, 25, 50, 90, 99])
def test_the_share_is_the_weight(weight: int) -> None:
    """Of 20000 callers the weight's share is modern, within four standard deviations."""
    number = 20_000
    modern = sum(choose(policy(), weight, caller=f"caller-{at}").side is Side.MODERN for at in range(number))
    share = weight / 100
    assert abs(modern / number - share) < 4 * (share * (1 - share) / number) ** 0.5


@pytest.mark.parametrize(("method", "spread"), [("GET", True), ("POST", False)])
def test_single_requests_are_spread_for_the_listed_methods_only(method: str, *, spread: bool) -> None:
    """One caller's GETs get their share each by itself, its POSTs all go one way."""
    it = policy(sticky="request")
    sides = {choose(it, 50, method=method, request_id=f"r{at}").side for at in range(200)}
    assert sides == (set(Side) if spread else {choose(policy(), 50).side})


def test_a_header_keeps_what_belongs_together() -> None:
    """The caller plays no part where a header is the key."""
    it = policy(sticky="header:X-Batch")
    for at in range(50):
        sides = {choose(it, 50, caller=f"c{caller}", header=f"batch-{at}").side for caller in range(5)}
        assert len(sides) == 1


def test_migrations_are_spread_apart() -> None:
    """Who is early in one migration is not early in all of them."""
    callers = [f"c{at}" for at in range(200)]
    one = [choose(policy(), 50, caller=caller).side for caller in callers]
    other = [choose(policy(name="balances"), 50, caller=caller).side for caller in callers]
    assert one != other


@given(KEYS, KEYS)
def test_a_point_is_in_its_interval(migration: str, key: str) -> None:
    """From 0 on, never 1: a weight of 100 has room for all."""
    assert 0 <= point(migration, key) < 1


def test_another_process_says_the_same() -> None:
    """Neither hash seeds nor platforms play a part; a point that changed would move callers at an upgrade."""
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "from proxy.migration.side import point; print([point('payments', f'c{at}') for at in range(20)])",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert said.stdout.strip() == str([point("payments", f"c{at}") for at in range(20)])
    assert point("payments", "erp") == pytest.approx(0.118353, abs=1e-6)


def test_the_why_says_weight_and_cohort() -> None:
    """An operator sees by how much a caller missed."""
    place = point("payments", "erp")
    assert choose(policy(), 25).why == f"weight 25, cohort {place:.3f}"
