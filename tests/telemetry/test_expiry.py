import pytest

from proxy.telemetry.expiry import STEPS_IN_DAYS, expiry_step, expiry_words

NOW = 1_800_000_000.0
DAY = 86400


@pytest.mark.parametrize(
    ("left", "step", "words"),
    [
        (30 * DAY + 1, None, "expires in 30 days"),
        (30 * DAY, 30, "expires in 30 days"),
        (14 * DAY + 1, 30, "expires in 14 days"),
        (14 * DAY, 14, "expires in 14 days"),
        (7 * DAY - 1, 7, "expires in 6 days"),
        (DAY, 1, "expires in 1 day"),
        (DAY - 1, 1, "expires in 23 hours"),
        (3601, 1, "expires in 1 hour"),
        (3599, 1, "expires in 59 minutes"),
        (59, 1, "expires in less than a minute"),
        (0, 0, "has expired"),
        (-DAY, 0, "has expired"),
    ],
)
def test_steps(left: float, step: int | None, words: str) -> None:
    """30, 14, 7 and 1 days before the end, and at the end."""
    assert expiry_step(NOW + left, now=NOW) == step
    assert expiry_words(NOW + left, now=NOW) == words


def test_every_step_is_passed_on_the_way_to_the_end() -> None:
    """Whoever looks every hour misses none."""
    steps = [expiry_step(NOW + 31 * DAY, now=NOW + hour * 3600) for hour in range(32 * 24)]
    assert list(dict.fromkeys(steps)) == [None, *STEPS_IN_DAYS]
