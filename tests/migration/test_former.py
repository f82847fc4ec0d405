"""Which settings of before matter for a retry that no pin speaks of."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.former import ANY_WEIGHT, FormerSetting, Keyed, former_of, left, may_differ, side_of
from proxy.migration.pin import PIN_SECONDS
from proxy.migration.side import Policy, Side

NOW = 1_700_000_000.0
WEIGHTS = st.integers(0, 100)
KEYED = st.builds(
    Keyed,
    digest=st.integers(0, (1 << 64) - 1).map(lambda number: f"{number:016x}"),
    caller=st.sampled_from(["erp", "crm", ""]),
    method=st.just("POST"),
    header=st.one_of(st.none(), st.text(max_size=5)),
)


def policy(sticky: str = "caller") -> Policy:
    """Return a policy without pins."""
    return Policy(name="payments", sticky=sticky, methods=frozenset({"POST"}), pinned={}, fallback=True)


@given(KEYED, WEIGHTS, WEIGHTS, st.sampled_from(["caller", "request", "header:X"]))
def test_a_former_weight_matters_to_whom_it_sent_elsewhere(keyed: Keyed, old: int, new: int, sticky: str) -> None:
    """And to nobody else, nor a day later."""
    its = policy(sticky)
    before = side_of(its, keyed, weight=old, guard_pinned=False)
    side = side_of(its, keyed, weight=new, guard_pinned=False)
    former = [FormerSetting(old, "", NOW, settled=True)]

    assert may_differ(former, its, keyed, side=side, guard_pinned=False, now=NOW + 60) == (before is not side)
    assert not may_differ(former, its, keyed, side=side, guard_pinned=False, now=NOW + PIN_SECONDS)


def test_a_hold_matters_to_its_caller_and_another_table_to_all() -> None:
    """Whatever the weight."""
    erp = Keyed(digest="0" * 16, caller="erp", method="POST", header=None)
    crm = Keyed(digest="1" * 16, caller="crm", method="POST", header=None)
    for one, expected in (
        (FormerSetting(0, "erp", NOW, settled=True), (True, False)),
        (FormerSetting(ANY_WEIGHT, "", NOW, settled=True), (True, True)),
    ):
        found = [may_differ([one], policy(), it, side=Side.LEGACY, guard_pinned=False, now=NOW) for it in (erp, crm)]
        assert tuple(found) == expected


def test_one_setting_is_kept_once() -> None:
    """With its last end, settled only if all of it is; what ended a day ago goes."""
    old = FormerSetting(50, "", NOW - PIN_SECONDS, settled=True)
    first, again = FormerSetting(10, "", NOW - 9, settled=False), FormerSetting(10, "", NOW, settled=True)
    held = FormerSetting(10, "erp", NOW, settled=True)

    assert left([old, first], [again, held], now=NOW) == (FormerSetting(10, "", NOW, settled=False), held)


@given(st.lists(st.builds(FormerSetting, WEIGHTS, st.text(max_size=9), st.floats(0, 1e11), settled=st.booleans())))
def test_settings_travel_as_json(former: list[FormerSetting]) -> None:
    """To disk, to workers and to other replicas."""
    assert former_of([one.row() for one in former]) == tuple(former)


@pytest.mark.parametrize(
    "row",
    [[101, "", 1.0, True], [-2, "", 1.0, True], [True, "", 1.0, True], [1, 1, 1.0, True], [1, "", "x", True],
     [1, "", float("nan"), True], [1, "", 1.0, 1], [1, "", 1.0], ["x"]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_setting(row: list[Any]) -> None:
    """It was written by nobody of ours."""
    with pytest.raises((ValueError, TypeError)):
        former_of([row])
