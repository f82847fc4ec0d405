"""Outcomes that workers report for migrated routes, validated: workers parse untrusted bytes."""

from typing import Any, NamedTuple

from proxy.migration.side import Side

OUTCOMES = frozenset({"ok", "client_error", "forbidden", "refused", "failed", "none"})
_LONGEST_NAME = 256


class ExchangeOutcome(NamedTuple):
    """One request sent, or an exchange without one; *finished* in monotonic seconds, equal in all processes.

    *safe*: the method changes nothing. *outcome* is one of OUTCOMES; *status* the bank's, 0 without an answer;
    *refused*: the bank refused the token. *route* is the rule's name.
    """

    migration: str
    side: Side
    caller: str
    safe: bool
    outcome: str
    status: int
    refused: bool
    finished: float
    route: str


def outcome_of(row: Any) -> ExchangeOutcome:
    """Parse the JSON form of an outcome; raise ValueError or TypeError."""
    migration, side, caller, safe, outcome, status, refused, finished, route = row
    sound = (
        isinstance(migration, str)
        and len(migration) <= _LONGEST_NAME
        and isinstance(caller, str)
        and len(caller) <= _LONGEST_NAME
        and type(safe) is bool
        and outcome in OUTCOMES
        and type(status) is int
        and 0 <= status <= 999
        and type(refused) is bool
        and type(finished) in (int, float)
        # Also false for NaN and infinity, which json.loads accepts.
        and 0 <= finished < 1e12
        and isinstance(route, str)
        and len(route) <= _LONGEST_NAME
    )
    if not sound:
        raise ValueError("no row")
    return ExchangeOutcome(migration, Side(side), caller, safe, outcome, status, refused, float(finished), route)
