import subprocess
import sys

import pytest

from proxy.times import duration, has_zone, local_text

CODE = """
from proxy.times import local, local_text
print(local(1_800_000_000.9))
print(local_text("2026-07-01T10:00:00.123456Z"))
print(local_text("2026-01-01T10:00:00.123456Z", precise=True))
"""


def test_times_are_local_with_their_offset() -> None:
    """Each with the offset that was in force then: of Berlin, an hour ahead of UTC, in summer two."""
    berlin = {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=berlin)

    assert done.stdout.splitlines() == [
        "2027-01-15 09:00:00+01:00",
        "2026-07-01 12:00:00+02:00",
        "2026-01-01 11:00:00.123+01:00",
    ]


def test_what_is_no_time_is_shown_as_it_is() -> None:
    """Records of a later version, or broken ones."""
    assert [local_text(text) for text in ("soon", None, 4)] == ["soon", "", "4"]


@pytest.mark.parametrize(
    ("text", "known"),
    [("2h", True), ("2026-11-24", False), ("2026-11-24T09:30", False), ("2026-11-24T09:30Z", True)],
)
def test_which_times_need_a_zone(text: str, *, known: bool) -> None:
    """How long ago is the same everywhere."""
    assert has_zone(text) is known


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (8.2 * 86400, "8 d 4 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    """A unit that is 0 is left out."""
    assert duration(seconds) == text
