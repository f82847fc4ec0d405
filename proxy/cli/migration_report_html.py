"""The report on a migration as one page of HTML for the file of an auditor: no script, nothing from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS
from proxy.text import printable
from proxy.times import local_text

# For screen and paper: a row stays on one page, and its table's head is repeated on each.
_STYLE = (
    "body{font:11pt/1.4 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#000;background:#fff}"
    "table{border-collapse:collapse;margin:.5rem 0}th,td{border:1px solid #777;padding:.2rem .5rem;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}td.n{text-align:right}thead{display:table-header-group}tr,pre{"
    "break-inside:avoid}pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #777;padding:.5rem;"
    "font-size:9pt}"
    "@page{margin:15mm}@media print{body{margin:0;max-width:none}}"
)
# A browser then loads nothing and runs nothing, whatever a name may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_SIGNATURE = (
    "<h2>Signature</h2><p>This page is signed with the key that signs the checkpoints of the request log. "
    "<code>payproxy why --verify FILE --key PUBLIC_KEY</code> tells whether it is unchanged, and whose it is.</p>"
)

_SIDE = ("requests", "exchanges", "failed", "failure_ratio", "client_errors", "client_error_ratio")
_CALLER = ("caller", "legacy_requests", "legacy_last", "modern_requests", "modern_last")
_CHANGE = ("time", "what", "old_weight", "weight", "who", "proof", "reason")
_NUMBERS = frozenset({*_SIDE, "legacy_requests", "modern_requests", "old_weight", "weight"})


def report_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """Return the page of *report*, as `migration report --json` prints it, with *facts* about when and of what it is.

    The statement's place is empty; `signed_page` fills it.
    """
    name, begins = report["migration"], report["log_begins"]
    span = f"{local_text(begins)} to {local_text(facts['time'])}" if begins else "the log has no record"
    rows = {
        "Made": local_text(facts["time"]),
        "Environment": facts["environment"],
        "Instance": facts["instance"],
        "Chain of the log": facts["chain"],
        "Span of the log": span,
    }
    sides = [{"side": side, **report[side]} for side in ("legacy", "modern")]
    parts = [
        f"<h1>Migration {_text(name)}</h1>",
        f'<p id="verdict"><strong>{_text(report["verdict"])}</strong></p>',
        _facts(rows),
        f"<h2>Both sides, the last {LEGACY_DAYS} days</h2>",
        _table("sides", ("side", *_SIDE), sides),
        f"<h2>Callers</h2><p>Requests of the last {LEGACY_DAYS} days; last time within {SEEN_DAYS} days.</p>",
        _table("callers", _CALLER, report["callers"]),
        _names(f"Configured, and not seen for {SEEN_DAYS} days", report["not_seen"]),
        "<h2>Changes</h2>",
        _table("changes", _CHANGE, report["changes"]),
        _SIGNATURE,
        '<pre id="statement"></pre>',
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>Migration {_text(name)}, {_text(facts['environment'])}</title>\n"
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def statement_text(report: Mapping[str, Any]) -> str:
    """Return what is signed in words: the verdict and the numbers of callers and changes."""
    return (
        f"Migration {report['migration']}: {report['verdict']}.\nCallers: {len(report['callers'])}; changes: "
        f"{len(report['changes'])}; legacy {report['legacy']['requests']} requests, modern "
        f"{report['modern']['requests']} requests in {LEGACY_DAYS} days."
    )


def _facts(rows: Mapping[str, str]) -> str:
    cells = "".join(f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items())
    return f'<table id="facts">{cells}</table>'


def _table(identity: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th scope=col>{_text(name.replace('_', ' '))}</th>" for name in columns)
    lines = "\n".join(f"<tr>{''.join(_cell(name, row[name]) for name in columns)}</tr>" for row in rows)
    empty = f'<tr><td colspan="{len(columns)}">none</td></tr>'
    return f'<table id="{identity}"><thead><tr>{head}</tr></thead><tbody>\n{lines or empty}\n</tbody></table>'


def _cell(column: str, value: object) -> str:
    if column.endswith("ratio"):
        shown = f"{value:.2%}"
    elif column == "time" or column.endswith("_last"):
        shown = local_text(value) if value else "never"
    elif column == "caller":
        shown = str(value) or "anonymous callers"
    else:
        shown = str(value)
    return f"<td{' class=n' if column in _NUMBERS else ''}>{_text(shown)}</td>"


def _names(title: str, names: Iterable[str]) -> str:
    found = ", ".join(name or "anonymous callers" for name in names)
    return f'<p id="not-seen">{_text(title)}: {_text(found)}</p>' if found else ""


def _text(value: object) -> str:
    """Return *value* for HTML; control characters, which HTML has no place for, are replaced."""
    return escape(printable(str(value), other="\N{REPLACEMENT CHARACTER}"))
