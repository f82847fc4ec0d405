"""The report on a migration as one page of HTML for the file of an auditor: no script, nothing from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS
from proxy.times import local_text

_SIDE = ("requests", "exchanges", "failed", "failure_ratio", "client_errors", "client_error_ratio")
_CALLER = ("caller", "legacy_requests", "legacy_last", "modern_requests", "modern_last")
_CHANGE = ("time", "what", "old_weight", "weight", "who", "proof", "reason")
_NUMBERS = frozenset({*_SIDE, "legacy_requests", "modern_requests", "old_weight", "weight"})


def report_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """Return the page of *report*, as `migration report --json` prints it, with *facts* about when and of what it is.

    The statement's place is empty; `signed_page` fills it.
    """
    from proxy.console.rendering import render  # noqa: PLC0415 - jinja2, which the report without --html doesn't need

    begins = report["log_begins"]
    span = f"{local_text(begins)} to {local_text(facts['time'])}" if begins else "the log has no record"
    sides = [{"side": side, **report[side]} for side in ("legacy", "modern")]
    return render(
        "migration_report.html",
        migration=report["migration"],
        environment=facts["environment"],
        verdict=report["verdict"],
        facts={
            "Made": local_text(facts["time"]),
            "Environment": facts["environment"],
            "Instance": facts["instance"],
            "Chain of the log": facts["chain"],
            "Span of the log": span,
        },
        legacy_days=LEGACY_DAYS,
        seen_days=SEEN_DAYS,
        sides=_table(("side", *_SIDE), sides),
        callers=_table(_CALLER, report["callers"]),
        changes=_table(_CHANGE, report["changes"]),
        not_seen=", ".join(name or "anonymous callers" for name in report["not_seen"]),
    )


def statement_text(report: Mapping[str, Any]) -> str:
    """Return what is signed in words: the verdict and the numbers of callers and changes."""
    return (
        f"Migration {report['migration']}: {report['verdict']}.\nCallers: {len(report['callers'])}; changes: "
        f"{len(report['changes'])}; legacy {report['legacy']['requests']} requests, modern "
        f"{report['modern']['requests']} requests in {LEGACY_DAYS} days."
    )


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "columns": [name.replace("_", " ") for name in columns],
        "rows": [list(_cells(columns, row)) for row in rows],
    }


def _cells(columns: Sequence[str], row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for column in columns:
        value = row[column]
        if column.endswith("ratio"):
            shown = f"{value:.2%}"
        elif column == "time" or column.endswith("_last"):
            shown = local_text(value) if value else "never"
        elif column == "caller":
            shown = str(value) or "anonymous callers"
        else:
            shown = str(value)
        yield {"text": shown, "number": column in _NUMBERS}
