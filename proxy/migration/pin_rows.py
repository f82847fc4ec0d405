"""Retry pins as JSON rows: in a file, on the link between keeper and worker, and in Redis."""

from collections.abc import Iterable
from typing import Any, Final

from proxy.migration.pin import DIGEST_DIGITS, Reason, RetryPin
from proxy.migration.side import Side

_DIGITS: Final = frozenset("0123456789abcdef")
# Digest length of a payproxy before 2026-11-28.
_EARLIER_DIGITS: Final = 32
_LONGEST_NAME: Final = 256
_UNKNOWN: Final = Reason.UNKNOWN.value

Pins = dict[str, RetryPin]


def pin_row(digest: str, pin: RetryPin) -> list[Any]:
    """Return a pin as a JSON row."""
    return [digest, pin.side.value, pin.upstream, pin.until, pin.migration, pin.reason.value]


def pins_of(rows: Iterable[Any]) -> Pins:
    """Parse rows made by `pin_row`; raise ValueError or TypeError for a malformed one.

    Rows of an earlier payproxy have four members and a longer digest, which starts with ours.
    """
    return {digest_of(row[0]): pin_of(row[1:] if len(row) == 6 else [*row[1:], "", _UNKNOWN]) for row in rows}


def digest_of(value: Any) -> str:
    """Return *value* if it is a digest, shortened to today's length; raise ValueError."""
    if not (isinstance(value, str) and len(value) in (DIGEST_DIGITS, _EARLIER_DIGITS) and _DIGITS.issuperset(value)):
        raise ValueError("no digest")
    return value[:DIGEST_DIGITS]


def pin_of(row: Any) -> RetryPin:
    """Parse a row made by `pin_row` without its digest; raise ValueError or TypeError."""
    side, upstream, until, migration, reason = row
    sound = (
        isinstance(upstream, str)
        and 0 < len(upstream) <= _LONGEST_NAME
        and type(until) in (int, float)
        and 0 < until < 1e12
        and isinstance(migration, str)
        and len(migration) <= _LONGEST_NAME
    )
    if not sound:
        raise ValueError("no pin")
    return RetryPin(Side(side), upstream, float(until), migration, Reason(reason))
