"""Ends of retry pins between replicas: no clock that is apart, or is set, makes them shorter."""

from dataclasses import replace

import pytest

from proxy.migration.in_flight import LINGER_SECONDS
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_ends import adds, by_redis, by_wall, by_wall_of_another, shortened_by_clocks
from proxy.migration.side import Side

NOW = 1_800_000_000.0
PASSING = RetryPin(Side.LEGACY, "bank", NOW + LINGER_SECONDS, "payments", Reason.IN_FLIGHT)
UNKNOWN = RetryPin(Side.LEGACY, "bank", NOW + PIN_SECONDS, "payments", Reason.UNKNOWN)


@pytest.mark.parametrize("ahead", [-86400.0, -12.0, 0.0, 12.0, 86400.0])
@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_what_is_left_is_the_same_at_each_replica(ahead: float, delay: float) -> None:
    """Whatever their clocks show, and whatever Redis' shows; a slow answer lengthens it."""
    redis_now = 1_700_000_000.0
    there = by_redis({"a": PASSING}, now=NOW, redis_now=redis_now + delay)
    here = by_wall(there, now=NOW + ahead + 2 * delay, redis_now=redis_now + delay)["a"]

    left = here.until - (NOW + ahead + 2 * delay)
    assert left == pytest.approx(LINGER_SECONDS, abs=1e-3)
    assert replace(here, until=PASSING.until) == PASSING


def test_an_earlier_payproxy_may_have_a_clock_that_is_behind() -> None:
    """Its short pins count for a minute more than they would; those of yesterday, and the long ones, as they are."""
    behind = replace(PASSING, until=PASSING.until - 60)

    assert by_wall_of_another({"a": behind}, now=NOW, age=0.0)["a"].until >= PASSING.until
    assert by_wall_of_another({"a": behind}, now=NOW + 3600, age=3600.0)["a"].until <= NOW + 70
    assert by_wall_of_another({"a": UNKNOWN}, now=NOW, age=1.0) == {"a": UNKNOWN}


def test_only_a_new_end_shortens() -> None:
    """An attempt that ended well: its pin lasted for a day. What is read again by a clock that was set does not."""
    for_a_day = replace(PASSING, until=NOW + PIN_SECONDS)

    assert not shortened_by_clocks(for_a_day, PASSING)
    assert not shortened_by_clocks(None, PASSING)
    assert not shortened_by_clocks(PASSING, replace(PASSING, until=PASSING.until + 5))
    assert not shortened_by_clocks(PASSING, replace(PASSING, side=Side.MODERN, until=PASSING.until - 5))
    assert shortened_by_clocks(PASSING, replace(PASSING, until=PASSING.until - 5))


def test_a_step_of_the_clock_publishes_nothing_again() -> None:
    """Two million pins whose ends are some seconds later than the others have them, by our clock."""
    assert not adds(UNKNOWN, replace(UNKNOWN, until=UNKNOWN.until + 5))
    assert adds(UNKNOWN, replace(UNKNOWN, until=UNKNOWN.until + 3600))
    assert adds(None, UNKNOWN)
    assert adds(PASSING, UNKNOWN)
    assert not adds(UNKNOWN, PASSING)
