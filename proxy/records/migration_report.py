"""Report on a migration from the log: its changes, the outcomes per side, and remaining use of legacy. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proxy.clock import timestamp
from proxy.migration.side import Side
from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS, on_side
from proxy.records.tally import DAY_SECONDS, Tally
from proxy.settings.worker_values import MigrationValues

_CHANGE = "migration "


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change to the migration by a person or the guard; weights are "" where the record names none."""

    time: str
    who: str
    proof: str
    what: str
    reason: str
    old_weight: str
    weight: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTotals:
    """Outcome counts of one side; ratios are relative to *exchanges*: requests that the proxy did not hold back."""

    requests: int
    exchanges: int
    failed: int
    client_errors: int
    failure_ratio: float
    client_error_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerUse:
    """One caller: its requests by side in LEGACY_DAYS, and its last time on each side in SEEN_DAYS, "" for never."""

    caller: str
    legacy_requests: int
    modern_requests: int
    legacy_last: str
    modern_last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report. *no_longer_used*: no caller on legacy for LEGACY_DAYS, and every caller has been on modern.

    *still_on_legacy* used legacy in LEGACY_DAYS; *not_on_modern* called in SEEN_DAYS, never on modern; *not_seen* are
    configured and did not call. *log_begins* is "" for a log without records.
    """

    migration: str
    changes: tuple[Change, ...]
    legacy: SideTotals
    modern: SideTotals
    callers: tuple[CallerUse, ...]
    still_on_legacy: tuple[str, ...]
    not_on_modern: tuple[str, ...]
    not_seen: tuple[str, ...]
    log_begins: str
    no_longer_used: bool
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def report_of(
    values: MigrationValues,
    *,
    lately: Iterable[Tally],
    long: Iterable[Tally],
    operations: Iterable[Mapping[str, Any]],
    callers: Iterable[str],
    oldest: float | None,
    now: float,
) -> Report:
    """Return the report.

    *lately* are the counts of LEGACY_DAYS, *long* those of SEEN_DAYS, *operations* records, *callers* the configured
    callers; *oldest* is the time of the log's first record, in epoch seconds like *now*.
    """
    lately, long = list(lately), list(long)
    recent = {side: on_side(lately, side, values) for side in Side}
    seen = {side: _last(on_side(long, side, values)) for side in Side}
    legacy, modern = seen[Side.LEGACY], seen[Side.MODERN]
    known = sorted(legacy.keys() | modern.keys())
    since = now - LEGACY_DAYS * DAY_SECONDS
    still = tuple(caller for caller in known if legacy.get(caller, 0.0) >= since)
    not_on_modern = tuple(caller for caller in known if caller not in modern)
    covered = oldest is not None and oldest <= since
    return Report(
        migration=values.name,
        changes=changes_of(values.name, operations),
        legacy=_totals(recent[Side.LEGACY]),
        modern=_totals(recent[Side.MODERN]),
        callers=tuple(
            CallerUse(
                caller=caller,
                legacy_requests=_requests(recent[Side.LEGACY], caller),
                modern_requests=_requests(recent[Side.MODERN], caller),
                legacy_last=_time(legacy.get(caller)),
                modern_last=_time(modern.get(caller)),
            )
            for caller in known
        ),
        still_on_legacy=still,
        not_on_modern=not_on_modern,
        not_seen=tuple(sorted(set(callers).difference(known))),
        log_begins=_time(oldest),
        no_longer_used=covered and bool(known) and not still and not not_on_modern,
        verdict=_verdict(still=still, not_on_modern=not_on_modern, known=known, covered=covered),
    )


def changes_of(name: str, operations: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return the changes of the migration *name* in *operations*, the oldest first."""
    found: list[Change] = []
    for record in operations:
        what, values = str(record.get("what", "")), record.get("values")
        if not what.startswith(_CHANGE) or not isinstance(values, dict) or values.get("migration") != name:
            continue
        found.append(
            Change(
                **{name: str(record.get(name, "")) for name in ("time", "who", "proof", "reason")},
                **{name: str(values.get(name, "")) for name in ("old_weight", "weight")},
                what=what.removeprefix(_CHANGE),
            )
        )
    return tuple(sorted(found, key=lambda change: change.time))


def _totals(tallies: list[Tally]) -> SideTotals:
    exchanges = sum(one.exchanges for one in tallies)
    failed = sum(one.failed for one in tallies)
    client_errors = sum(one.client_errors for one in tallies)
    return SideTotals(
        requests=sum(one.requests for one in tallies),
        exchanges=exchanges,
        failed=failed,
        client_errors=client_errors,
        failure_ratio=round(failed / exchanges, 6) if exchanges else 0.0,
        client_error_ratio=round(client_errors / exchanges, 6) if exchanges else 0.0,
    )


def _last(tallies: list[Tally]) -> dict[str, float]:
    last: dict[str, float] = {}
    for one in tallies:
        last[one.caller] = max(last.get(one.caller, 0.0), one.last)
    return last


def _requests(tallies: list[Tally], caller: str) -> int:
    return sum(one.requests for one in tallies if one.caller == caller)


def _time(seconds: float | None) -> str:
    return timestamp(seconds) if seconds is not None else ""


def _verdict(*, still: tuple[str, ...], not_on_modern: tuple[str, ...], known: list[str], covered: bool) -> str:
    if still:
        return f"legacy is used: by {_names(still)} in the last {LEGACY_DAYS} days"
    if not covered:
        return f"not known: the log does not reach back {LEGACY_DAYS} days, over a month's end"
    if not known:
        return f"not known: nobody has called in the last {SEEN_DAYS} days"
    if not_on_modern:
        return (
            f"not known: {_names(not_on_modern)} called in the last {SEEN_DAYS} days and has not been on modern; "
            f"nobody used legacy in the last {LEGACY_DAYS}"
        )
    return (
        f"legacy is no longer used: nobody has for {LEGACY_DAYS} days, and every caller of the last {SEEN_DAYS} days "
        "has been on modern"
    )


def _names(callers: Iterable[str]) -> str:
    return ", ".join(caller or "anonymous callers" for caller in callers)
