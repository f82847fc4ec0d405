"""Which requests in flight have waited long for the bank: looked at once a second, at no cost of a request."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.request_summary import RequestSummary

# The bank's usual answers take less than a second.
LATE_SECONDS: Final = 2.0


class LateAnswers(NamedTuple):
    """*number* of requests without an answer after LATE_SECONDS; age in seconds, and route, of the oldest of them."""

    number: int = 0
    seconds: float = 0.0
    route: str = ""


def late_answers(requests: Iterable[RequestSummary], *, now: float) -> LateAnswers:
    """Return the late ones of *requests*, which are in flight and came whole from their callers, at monotonic *now*."""
    late = [
        one for one in requests if one.attempts and not one.attempts[-1].status and now - one.started >= LATE_SECONDS
    ]
    if not late:
        return LateAnswers()
    oldest = min(late, key=lambda one: one.started)
    return LateAnswers(len(late), now - oldest.started, oldest.chosen.route)
