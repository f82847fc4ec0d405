import json
from typing import Any

import pytest

from proxy.console.time_spent import time_spent
from proxy.errors import Sent
from tests.records.kept import record
from tests.records.support import NOW, an_attempt


def spent(**values: Any) -> list[tuple[str, str]]:
    """Return phase and milliseconds of each row for a record with *values*."""
    table = time_spent(json.loads(record(NOW, started=100.0, **values)))
    return [(row[0].text, row[1].text) for row in table.rows] if table else []


def test_each_phase_has_its_share() -> None:
    """From the caller's first byte to the last of the answer; the phases are all of it."""
    attempt = an_attempt(started_wall=NOW + 0.050, connect_ms=30.0, wait_ms=100.0)

    found = spent(attempts=[attempt], finished=100.160)

    assert found == [
        ("the caller's body, queue and token", "20.0"),
        ("attempt 1: connect", "30.0"),
        ("attempt 1: wait for the bank's answer", "100.0"),
        ("the answer's body, to the caller", "10.0"),
    ]


def test_attempts_and_what_is_between_them() -> None:
    """A 401, a new token, and an answer that never came."""
    attempts = [
        an_attempt(1, status=401, started_wall=NOW + 0.010, wait_ms=20.0),
        an_attempt(2, status=0, sent=Sent.UNKNOWN, started_wall=NOW + 0.050, wait_ms=0.0),
    ]

    found = spent(attempts=attempts, finished=101.0, status=504, origin="proxy")

    assert [ms for _, ms in found] == ["10.0", "20.0", "20.0", "950.0"]
    assert found[2][0] == "between attempts: a new token"
    assert found[3][0] == "attempt 2: wait, without an answer"


@pytest.mark.parametrize("change", [{"attempts": []}, {"attempts": None}, {"time": "x"}, {"attempts": [{}]}])
def test_what_was_not_sent_or_is_not_understood_has_no_phases(change: dict[str, Any]) -> None:
    """The page goes without."""
    assert time_spent(json.loads(record(NOW)) | change) is None
