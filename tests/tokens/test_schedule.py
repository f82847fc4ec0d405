"""When tokens are renewed and mints repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.schedule import lifespan, outage_delay, refusal_delay

LIFETIMES = st.floats(min_value=1, max_value=86400)
SHARES = st.floats(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("lifetime", "stale_at", "expires"),
    [
        (28800, 28200, 28770),  # 10 min before the end; 30 s before it
        (3600, 3000, 3570),
        (300, 240, 270),  # 20 %; 30 s are 10 %
        (60, 48, 54),
        (20, 15, 18),  # 5 s, since 20 % would be less
        (5, 3, 4.5),  # 40 %, since 5 s would be all
        (1, 0.6, 0.9),
    ],
)
def test_the_rule_without_jitter(lifetime: float, stale_at: float, expires: float) -> None:
    """Stale begins min(20 %, 10 min) before the end but at least min(5 s, 40 %), expired min(30 s, 10 %)."""
    span = lifespan(minted=0, lifetime=lifetime, jitter=0)

    assert span.stale_at == pytest.approx(stale_at)
    assert span.expires == pytest.approx(expires)


@given(lifetime=LIFETIMES, jitter=SHARES)
def test_jitter_only_shortens_the_window_by_up_to_a_tenth(lifetime: float, jitter: float) -> None:
    """Whatever the jitter, renewal begins within a tenth of the window after the rule's instant, never before it."""
    rule, span = lifespan(minted=7, lifetime=lifetime, jitter=0), lifespan(minted=7, lifetime=lifetime, jitter=jitter)
    window = 7 + lifetime - rule.stale_at

    assert rule.stale_at <= span.stale_at <= rule.stale_at + window / 10 + 1e-6
    assert span.expires == rule.expires


@given(lifetime=LIFETIMES, jitter=SHARES)
def test_the_states_follow_each_other(lifetime: float, jitter: float) -> None:
    """A token is fresh for at least half its life, then stale for a while, then expired before its true end."""
    span = lifespan(minted=0, lifetime=lifetime, jitter=jitter)

    assert lifetime / 2 < span.stale_at < span.expires < lifetime


@given(lifetime=LIFETIMES, jitter=SHARES, seconds=st.floats(min_value=0, max_value=10))
def test_a_slow_mint_is_begun_so_early_that_nobody_waits(lifetime: float, jitter: float, seconds: float) -> None:
    """A mint as long as the last one is over before the token is not sent any more, if half of its life is enough."""
    span = lifespan(minted=0, lifetime=lifetime, jitter=jitter, mint_seconds=seconds)

    assert span.stale_at >= lifetime / 2 - 1e-6
    if lifetime - span.expires + 1.5 * seconds <= lifetime / 2:
        assert span.stale_at + seconds <= span.expires + 1e-6


def test_refusals_back_off_from_half_a_minute_to_a_quarter_of_an_hour() -> None:
    """30 s doubling to 15 min, without jitter."""
    assert [refusal_delay(count) for count in range(1, 8)] == [30, 60, 120, 240, 480, 900, 900]


@given(failures=st.integers(min_value=1, max_value=10_000), jitter=SHARES)
def test_outages_back_off_within_a_second_and_a_minute(failures: int, jitter: float) -> None:
    """However many and whatever the jitter: from 1 s to 60 s, and never shorter than the one before without jitter."""
    assert 1 <= outage_delay(failures, jitter=jitter) <= 60
    assert outage_delay(failures + 1, jitter=0) >= outage_delay(failures, jitter=0)


def test_outages_double() -> None:
    """The first steps are 1, 2, 4 s; the last is a minute with all jitter."""
    assert [outage_delay(count, jitter=0) for count in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert outage_delay(1, jitter=1) == 1.5
    assert outage_delay(50, jitter=1) == 60
