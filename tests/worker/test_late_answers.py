from typing import Any

from proxy.request_summary import Chosen, RequestSummary
from proxy.worker.late_answers import LATE_SECONDS, LateAnswers, late_answers
from tests.telemetry.support import an_attempt

NOW = 1000.0


def in_flight(age: float, **changes: Any) -> RequestSummary:
    """Return a request that has been in flight for *age* seconds, sent once and not answered."""
    found = RequestSummary("id", started=NOW - age, started_wall=0.0, client_address="127.0.0.1", method="POST")
    found.chosen = Chosen(route=changes.pop("route", "payments"))
    found.attempts = [an_attempt(status=status) for status in changes.pop("statuses", [0])]
    return found


def test_the_oldest_of_the_late_ones_is_named() -> None:
    """From LATE_SECONDS on."""
    late = [in_flight(LATE_SECONDS), in_flight(9.0, route="slow"), in_flight(LATE_SECONDS - 0.1)]

    assert late_answers(late, now=NOW) == LateAnswers(2, 9.0, "slow")


def test_what_does_not_wait_for_the_bank_is_not_late() -> None:
    """Not sent yet, or its answer has begun; a second send after a 401 waits."""
    assert late_answers([in_flight(9.0, statuses=[])], now=NOW) == LateAnswers()
    assert late_answers([in_flight(9.0, statuses=[200])], now=NOW) == LateAnswers()
    assert late_answers([in_flight(9.0, statuses=[401, 0])], now=NOW).number == 1
    assert late_answers([], now=NOW) == LateAnswers()
