"""What callers did within the last hour: requests by caller, and errors by kind; in memory of bounded size."""

import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from proxy.clock import Clock
from proxy.errors import MALFORMED
from proxy.records.json_line import EXCHANGE
from proxy.records.sinks.row import decode
from proxy.result import Result, result_of
from proxy.telemetry.status import RECENT_SECONDS, CallerStatus, ErrorStatus

_MINUTES: Final = RECENT_SECONDS // 60
# Callers, and kinds of errors, that are kept: real ones are fewer. So many of each take 5 MB.
MOST_KEPT: Final = 1000
# One more than the results: requests whose `sent_upstream` is unknown, which are also counted under their result.
_UNKNOWN: Final = len(Result)
_WIDTH: Final = _UNKNOWN + 1

Key = TypeVar("Key")
# The members of a record from "caller" to "route", and from "status" to "sent_upstream", as they are in its line.
_Members = tuple[bytes, bytes]


@dataclass(slots=True)
class _Kept:
    """Counts by minute, in a ring up to the minute *newest* since the epoch; their sums; facts of the last request."""

    ring: "array[int]" = field(default_factory=lambda: array("I", bytes(4 * _MINUTES * _WIDTH)))
    sums: list[int] = field(default_factory=lambda: [0] * _WIDTH)
    newest: int = 0
    last: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, at: float, counts: Iterable[int], *, now: float) -> None:
        """Add *counts* of requests at *at*, unless that is too long before *now*."""
        self.forget(now)
        minute = int(min(at, now)) // 60
        if minute > self.newest - _MINUTES:
            for place, count in enumerate(counts):
                self.ring[minute % _MINUTES * _WIDTH + place] += count
                self.sums[place] += count
        self.last = max(self.last, at)

    def forget(self, now: float) -> None:
        """Forget the minutes that began an hour before the end of the present one, or earlier.

        A clock that was set back by less leaves them until it is where it was; by more, all of them go.
        """
        present = int(now) // 60
        if present <= self.newest - _MINUTES:
            self.newest = present - _MINUTES
        for minute in range(self.newest + 1, present + 1)[-_MINUTES:]:
            begin = minute % _MINUTES * _WIDTH
            for place in range(_WIDTH):
                self.sums[place] -= self.ring[begin + place]
                self.ring[begin + place] = 0
        self.newest = max(self.newest, present)


class RecentExchanges:
    """Counts the exchanges in new records. It may be used from any thread: the shipper's adds, others look."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._callers: dict[str, _Kept] = {}
        self._errors: dict[tuple[str, int, str], _Kept] = {}

    def add(self, records: Iterable[bytes]) -> None:
        """Count the exchanges among *records*, lines in the order in which they were written."""
        counts: Counter[_Members] = Counter()
        lines: dict[_Members, bytes] = {}
        for line in records:
            if line.startswith(EXCHANGE) and (members := _members(line)):
                counts[members] += 1
                lines[members] = line
        now = self._clock.now()
        with self._lock:  # not held for longer than the few kinds of requests in a batch need
            for members, number in counts.items():
                self._count(members, number, lines[members], now)

    def callers(self) -> tuple[CallerStatus, ...]:
        """Return the callers of the last hour, the busiest first."""
        found = []
        for name, last, sums in self._recent(self._callers):
            other, held_back, failed, client_errors, fine, unknown = sums
            found.append(
                CallerStatus(
                    name=name, requests=sum(sums[:_UNKNOWN]), fine=fine, client_errors=client_errors, failed=failed,
                    held_back=held_back, other=other, sent_unknown=unknown, last=last.last,
                )
            )  # fmt: skip
        return tuple(sorted(found, key=lambda one: -one.requests))

    def errors(self) -> tuple[ErrorStatus, ...]:
        """Return the errors of the last hour, the latest first."""
        found = [
            ErrorStatus(code=code, status=status, route=route, count=sum(sums[:_UNKNOWN]), last=kept.last, **kept.facts)
            for (code, status, route), kept, sums in self._recent(self._errors)
        ]
        return tuple(sorted(found, key=lambda one: -one.last))

    def _count(self, members: _Members, number: int, line: bytes, now: float) -> None:
        try:
            asked, outcome, record = _values(members[0]), _values(members[1]), decode(line)
            at = datetime.fromisoformat(record["time"]).timestamp()
            result = result_of(outcome["status"], outcome["code"], bank=outcome["origin"] == "bank")
            unknown = outcome["sent_upstream"] == "unknown"
            caller, route, code = str(asked["caller"]), str(asked["route"]), str(outcome["code"])
            status = 0 if code else int(outcome["status"])
            cause = outcome["cause"] or record["note"]
            facts = {"id": record["id"], "cause": cause, "sent_upstream": outcome["sent_upstream"]}
            facts = {"caller": caller} | {name: str(value) for name, value in facts.items()}
        except MALFORMED:  # no record of this version
            return
        counts = [0] * _WIDTH
        counts[result], counts[_UNKNOWN] = number, number * unknown
        _kept(self._callers, caller).add(at, counts, now=now)
        if result in (Result.FAILED, Result.HELD_BACK) or code or unknown:
            kept = _kept(self._errors, (code, status, route))
            if at >= kept.last:
                kept.facts = facts
            kept.add(at, counts, now=now)

    def _recent(self, table: dict[Key, _Kept]) -> Iterator[tuple[Key, _Kept, list[int]]]:
        now = self._clock.now()
        with self._lock:
            for kept in table.values():
                kept.forget(now)
            for key in [key for key, kept in table.items() if not any(kept.sums)]:
                del table[key]
            found = [(key, kept, list(kept.sums)) for key, kept in table.items()]
        yield from found


def _kept(table: dict[Key, _Kept], key: Key) -> _Kept:
    kept = table.get(key)
    if kept is None:
        if len(table) >= MOST_KEPT:
            del table[min(table, key=lambda one: table[one].last)]
        kept = table[key] = _Kept()
    return kept


def _members(line: bytes) -> _Members | None:
    """Return the members of an exchange's *line* that are counted by, unparsed; None if they are in another order.

    A quoted name can't occur in a value, where quotes are escaped.
    """
    caller = line.find(b',"caller":')
    path = line.find(b',"path":', caller)
    outcome = line.find(b'],"status":', path)
    replayed = line.find(b',"replayed":', outcome)
    if not 0 < caller < path < outcome < replayed:
        return None
    return line[caller + 1 : path], line[outcome + 2 : replayed]


@lru_cache(maxsize=1024)
def _values(members: bytes) -> Mapping[str, Any]:
    values: dict[str, Any] = decode(b"{%b}" % members)
    return values
