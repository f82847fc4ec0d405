"""How many replacements a route may ask for."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.rate_limit import RateLimit


def spent(budget: RateLimit, now: float) -> int:
    """Return how many replacements *budget* gives at once, and take them."""
    count = 0
    while budget.spend(now=now):
        count += 1
    return count


def test_twenty_at_once_then_one_per_two_seconds() -> None:
    """A full budget gives 20; afterwards 2 s buy one."""
    budget = RateLimit(now=100)

    assert spent(budget, 100) == 20
    assert spent(budget, 101.9) == 0
    assert spent(budget, 102) == 1
    assert spent(budget, 108) == 3


def test_it_never_holds_more_than_twenty() -> None:
    """A quiet year saves up nothing."""
    budget = RateLimit(now=0)

    assert spent(budget, 31_536_000) == 20


def test_fresh_refusals_double_the_refill_up_to_a_minute() -> None:
    """After one fresh refusal 4 s buy one, after many 60 s."""
    budget = RateLimit(now=0)
    spent(budget, 0)

    budget.refused_fresh(now=0)
    assert spent(budget, 3.9) == 0
    assert spent(budget, 4) == 1
    for _ in range(50):
        budget.refused_fresh(now=4)
    assert spent(budget, 63.9) == 0
    assert spent(budget, 64) == 1


def test_a_replay_that_succeeds_restores_the_usual_refill() -> None:
    """The slow refill counts for the time it held, the usual one from then on."""
    budget = RateLimit(now=0)
    spent(budget, 0)
    for _ in range(10):
        budget.refused_fresh(now=0)

    budget.replay_succeeded(now=30)  # half a replacement so far

    assert spent(budget, 30.9) == 0
    assert spent(budget, 31) == 1


@given(
    steps=st.lists(
        st.tuples(st.floats(min_value=0, max_value=50), st.sampled_from(["spend", "refused", "replayed"])), max_size=80
    )
)
def test_no_order_of_events_buys_more(steps: list[tuple[float, str]]) -> None:
    """Whatever happens in which order, never more than 20 and one per 2 s are given."""
    budget, now, given_out = RateLimit(now=0), 0.0, 0
    for seconds, what in steps:
        now += seconds
        if what == "refused":
            budget.refused_fresh(now=now)
        elif what == "replayed":
            budget.replay_succeeded(now=now)
        given_out += spent(budget, now)

        assert given_out <= 20 + now / 2 + 1e-6


def test_repr_says_what_is_left() -> None:
    """The line a log would want."""
    assert repr(RateLimit(now=0)) == "<RateLimit 20.0 left, one per 2 s>"
