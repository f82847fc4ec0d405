import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.state import Document, MigrationState, Phase, StateUnusable, decode, encode

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WEIGHTS = st.integers(0, 100)
STATES = st.builds(
    MigrationState,
    weight=WEIGHTS,
    version=st.integers(0, 10**9),
    who=TEXTS,
    when=st.floats(0, 4e9),
    reason=TEXTS,
    steps=st.sets(WEIGHTS).map(lambda steps: tuple(sorted(steps))),
    held=st.lists(TEXTS, max_size=4).map(tuple),
    sides=TEXTS,
    finished=st.booleans(),
)


def at(state: MigrationState, *weights: int) -> MigrationState:
    """Return what becomes of *state* when these weights are set one after the other."""
    for weight in weights:
        state = state.at(weight, who="op", when=1.0, reason="r")
    return state


@given(st.dictionaries(TEXTS, STATES, max_size=4), st.frozensets(TEXTS, max_size=3))
def test_what_is_written_is_read_again(states: dict[str, MigrationState], unshared: frozenset[str]) -> None:
    """Whatever names and reasons people choose."""
    document = Document(states=states, unshared=unshared)

    assert decode(encode(document)) == document


@pytest.mark.parametrize(
    ("weights", "last_good"),
    [((), 0), ((10,), 0), ((10, 50), 10), ((10, 50, 100), 50), ((10, 50, 10), 0), ((10, 50, 30), 10), ((50, 50), 0)],
)
def test_a_rollback_goes_to_the_last_lower_weight(weights: tuple[int, ...], last_good: int) -> None:
    """What lies above the weight in force is not lower, and neither is the weight itself."""
    assert at(MigrationState(), *weights).last_good == last_good


@given(st.lists(WEIGHTS, max_size=30))
def test_rollbacks_always_lead_down_to_zero(weights: list[int]) -> None:
    """Each goes lower, and versions only grow."""
    state = at(MigrationState(), *weights)
    assert state.version == len(weights)
    while state.weight:
        lower = at(state, state.last_good)
        assert lower.weight < state.weight
        assert lower.version == state.version + 1
        state = lower


def test_the_names_of_weights() -> None:
    """0 is legacy, 100 is modern, everything between them is the ramp."""
    assert [MigrationState(weight=weight).phase for weight in (0, 1, 99, 100)] == [
        Phase.LEGACY,
        Phase.RAMP,
        Phase.RAMP,
        Phase.MODERN,
    ]


def test_callers_are_held() -> None:
    """Each is a version of its own; the weight and the steps to it stay."""
    state = at(MigrationState(), 10, 50)
    held = state.holding("erp", who="guard", when=2.0, reason="403").holding("crm", who="guard", when=2.0, reason="403")

    assert held.held == ("crm", "erp")
    assert (held.weight, held.steps, held.version) == (50, (10,), 4)


def test_a_weight_set_anew_is_not_finished() -> None:
    """Whoever goes on with a migration has not finished it."""
    ended = at(MigrationState(), 50).ended(who="op", when=2.0, reason="r")

    assert ended.finished
    assert not at(ended, 60).finished


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 101},
        {"weight": -1},
        {"weight": True},
        {"weight": 1.5},
        {"version": -1},
        {"version": "1"},
        {"who": None},
        {"when": "now"},
        {"when": 1e300},
        {"steps": [50, 10]},
        {"steps": [10, 10]},
        {"steps": 10},
        {"held": "erp"},
        {"held": [1]},
        {"finished": 1},
        {"more": 1},
    ],
    ids=str,
)
def test_what_payproxy_does_not_write_is_refused(change: dict[str, Any]) -> None:
    """A weight that somebody mistyped must not be taken for one."""
    value = json.loads(encode(Document(states={"payments": MigrationState()})))
    value["migrations"]["payments"] |= change

    with pytest.raises(StateUnusable, match="payments"):
        decode(json.dumps(value).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format":true}',
        b'{"format":1}',
        b'{"format":1,"migrations":[]}',
        b"[" * 9999,
        b"\xff",
    ],
    ids=repr,
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """Torn, empty or something else altogether."""
    with pytest.raises(StateUnusable, match="not what payproxy writes"):
        decode(data)


def test_a_newer_format_is_refused_by_its_number() -> None:
    """A later payproxy may mean something else by the same words."""
    value = json.loads(encode(Document()))

    with pytest.raises(StateUnusable, match="format 2"):
        decode(json.dumps(value | {"format": 2}).encode())


def test_changes_leave_the_old_state_alone() -> None:
    """States are values."""
    state = MigrationState(weight=10)
    at(state, 50)
    assert state == replace(state)
    assert state.weight == 10
