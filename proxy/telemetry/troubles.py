"""What goes wrong at this moment, in sentences with the cause: for the overview and `payproxy status`. No I/O.

The checks of `health` judge the instance; these the traffic, which can fail while the instance is well.
"""

from collections.abc import Iterator
from typing import Final

from proxy.telemetry.status import ErrorStatus, Status, TokenStatus
from proxy.times import duration

# How long an error or a refused token is shown as something that happens now.
NOW_SECONDS: Final = 60.0
_MOST_ERRORS: Final = 3
# Codes of what callers do wrong themselves: no operator can mend it here.
_OF_CALLERS: Final = frozenset(
    {
        *("bad_request", "browser_refused", "caller_unauthenticated", "caller_token_invalid", "caller_not_allowed"),
        *("no_route", "method_not_allowed", "body_too_large", "headers_too_large", "target_too_long", "rate_limited"),
        *("body_encoded", "draining"),
    }
)


def troubles(status: Status) -> tuple[str, ...]:
    """Return what goes wrong now: late answers, refused tokens, and the latest errors."""
    refused = [one for one in status.tokens if one.refused and status.time - one.refused < NOW_SECONDS]
    recent = [one for one in status.errors if status.time - one.last < NOW_SECONDS and one.code not in _OF_CALLERS]
    return (
        *_late(status),
        *(_refused(token, status.time) for token in refused),
        *(_error(one, status.time) for one in recent[:_MOST_ERRORS]),
    )


def _late(status: Status) -> Iterator[str]:
    late = [worker for worker in status.workers if worker.late]
    if late:
        number = sum(worker.late for worker in late)
        longest = max(late, key=lambda worker: worker.late_seconds)
        have = "1 request has" if number == 1 else f"{number} requests have"
        yield (
            f"{have} no answer of the bank yet, the longest for {longest.late_seconds:.0f} s on route "
            f"{longest.late_route}: the bank is slow, or does not answer. After response_timeout such a request ends "
            "as upstream_timeout, and it is not known whether the bank has it."
        )


def _refused(token: TokenStatus, now: float) -> str:
    newer = "a new one is in use" if token.usable and token.minted >= token.refused else "there is no newer one yet"
    audience = f" for {token.audience}" if token.audience else ""
    return (
        f"{duration(max(0.0, now - token.refused))} ago the bank refused a token of {token.credential}{audience}: it "
        f"was revoked, or the bank does not accept it for this API; {newer}."
    )


def _error(one: ErrorStatus, now: float) -> str:
    name = one.code or (f"{one.status} from the bank" if one.status else "no answer")
    cause = f" Cause: {one.cause}." if one.cause else ""
    return f"{name} on route {one.route or '-'}, {duration(max(0.0, now - one.last))} ago: {one.meaning}{cause}"
