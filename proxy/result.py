"""What came of a request, in the five classes that the request log, the status and the plots count by."""

from enum import IntEnum
from typing import Final

# Error codes of the proxy that blame a token endpoint or the bank. With any other code the proxy itself stopped the
# request.
BEYOND_THE_PROXY: Final = (
    *("token_refused", "token_unavailable"),
    *("upstream_unreachable", "upstream_reset", "upstream_bad_response", "upstream_timeout"),
)


class Result(IntEnum):
    """Outcome of a request. FINE: 2xx; FAILED: the side's fault; OTHER: a redirect, or no answer."""

    OTHER = 0
    HELD_BACK = 1
    FAILED = 2
    CLIENT_ERROR = 3
    FINE = 4


def result_of(status: int, code: str, *, bank: bool) -> Result:
    """Return the outcome of a request answered with *status* and *code*, by the *bank* or by the proxy."""
    if not bank and code and code not in BEYOND_THE_PROXY:
        return Result.HELD_BACK
    if status >= 500 or (bank and status == 401):
        return Result.FAILED
    if status >= 400:
        return Result.CLIENT_ERROR
    return Result.FINE if 200 <= status < 300 else Result.OTHER
