"""What holds for the guard's decisions whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.guard import HoldCaller, Past
from proxy.migration.outcome import OUTCOMES, ExchangeOutcome
from proxy.migration.side import Side
from tests.migration.test_guard import NOW, decided, guard, row

ROWS = st.builds(
    row,
    caller=st.sampled_from(["a", "b", "c"]),
    outcome=st.sampled_from(sorted(OUTCOMES)),
    at=st.floats(NOW - 10, NOW + 400),
    side=st.sampled_from([Side.MODERN, Side.MODERN, Side.LEGACY]),
)
PASTS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(
        Past,
        exchanges=st.just(100),
        failed=st.integers(0, 100),
        client_errors=st.integers(0, 100),
        fine_on=st.sampled_from([frozenset(), frozenset({"payments"})]),
    ),
)
CALLERS = st.frozensets(st.sampled_from(["a", "b", "c"]))
BAD = ("failed", "refused", "client_error", "forbidden")


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, callers=CALLERS, weight=st.integers(-1, 0))
def test_at_weight_0_there_is_nothing_to_do(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], callers: frozenset[str], weight: int
) -> None:
    """Whatever came of exchanges and mints."""
    made = guard(*rows)
    made.see_mints(modern_failing="token_refused", legacy_works=True, now=NOW)
    assert decided(made, weight=weight, callers=callers, pasts=pasts, now=NOW + 500) is None


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, callers=CALLERS, now=st.floats(NOW, NOW + 500))
def test_fewer_than_three_failures_do_nothing_by_ratio(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], callers: frozenset[str], now: float
) -> None:
    """Two refusals are the least there is to act on."""
    kept: list[ExchangeOutcome] = []
    for one in rows:
        counts = one.side is Side.MODERN and (one.refused or one.outcome in BAD)
        if not counts or (one.outcome != "refused" and sum(other.outcome in BAD for other in kept) < 2):
            kept.append(
                one if counts or one.side is Side.MODERN or one.outcome not in BAD else one._replace(outcome="ok")
            )

    assert decided(guard(*kept), callers=callers, pasts=pasts, now=now) is None


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, now=st.floats(NOW, NOW + 500))
def test_one_callers_failures_alone_roll_nothing_back(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], now: float
) -> None:
    """The others being fine; and nobody else is held for them."""
    rows = [
        one if one.caller == "a" or one.outcome == "none" else one._replace(outcome="ok", refused=False) for one in rows
    ]
    decision = decided(guard(*rows), callers={"a", "b", "c"}, pasts=pasts, now=now)
    assert decision is None or (isinstance(decision, HoldCaller) and decision.caller == "a")


@given(
    rows=st.lists(ROWS, max_size=120),
    worse=st.lists(st.integers(0, 119), max_size=30),
    outcome=st.sampled_from(["failed", "refused"]),
    pasts=PASTS,
    callers=CALLERS,
)
def test_more_failures_never_undo_a_decision(
    rows: list[ExchangeOutcome], worse: list[int], outcome: str, pasts: dict[str, Past], callers: frozenset[str]
) -> None:
    """What had to be done has to be done if more exchanges that went well had failed."""
    before = decided(guard(*rows), callers=callers, pasts=pasts, now=NOW + 400)
    for at in worse:
        if at < len(rows) and rows[at].outcome == "ok":
            rows[at] = rows[at]._replace(outcome=outcome, refused=outcome == "refused")
    after = decided(guard(*rows), callers=callers, pasts=pasts, now=NOW + 400)

    assert before is None or after is not None


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, callers=CALLERS, held=st.sampled_from(["a", "b", "c"]))
def test_callers_that_are_held_do_not_count(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], callers: frozenset[str], held: str
) -> None:
    """As if none of theirs had come; and none is held twice."""
    decision = decided(guard(*rows), callers=callers - {held}, pasts=pasts, now=NOW + 400)
    if not isinstance(decision, HoldCaller):
        return
    assert decision.caller in callers - {held}


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, callers=CALLERS, changed=st.booleans())
def test_the_same_evidence_serves_once(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], callers: frozenset[str], *, changed: bool
) -> None:
    """Neither what was seen before a change nor what ended before it and is told late counts afterwards."""
    made = guard(*rows)
    made.begin(now=NOW + 400, weight_changed=changed)
    for one in rows:
        made.see(one)

    assert decided(made, callers=callers, pasts=pasts, now=NOW + 400) is None


@given(rows=st.lists(ROWS, max_size=120), pasts=PASTS, callers=CALLERS, now=st.floats(NOW, NOW + 500))
def test_what_legacy_and_the_proxy_did_is_no_evidence(
    rows: list[ExchangeOutcome], pasts: dict[str, Past], callers: frozenset[str], now: float
) -> None:
    """With or without it, the same is decided."""
    without = [one for one in rows if one.side is Side.MODERN and one.outcome != "none"]
    assert decided(guard(*rows), callers=callers, pasts=pasts, now=now) == decided(
        guard(*without), callers=callers, pasts=pasts, now=now
    )
