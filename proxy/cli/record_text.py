"""Records as text for people: a row of CSV, a timeline."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from proxy.cli.output import facts, paint, printable
from proxy.cli.times import local_text

Record = Mapping[str, Any]

CSV_COLUMNS = (
    *("time", "id", "kind", "instance", "sequence", "caller", "client_address", "method", "path", "route", "upstream"),
    *("credential", "audience", "side", "status", "origin", "code", "sent_upstream", "replayed", "caller_left"),
    *("duration_ms", "overhead_ms", "request_bytes", "response_bytes", "caller_left_ms"),
)

_SENT_COLOURS = {"unknown": "yellow", "yes": "green"}
# C0 without tab and line feed, DEL and C1, which are escaped as in JSON: then a terminal does not interpret them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# A spreadsheet takes a cell with such a first character for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def summary(record: Record) -> str:
    """Return a short summary of a record that is not of an exchange."""
    names = ("event", "what", "verdict", "asked", "who", "reason", "credential", "audience", "code", "cause", "count")
    return ", ".join(cell(record[name]) for name in names if record.get(name))


def cell(value: object) -> str:
    """Return a member of a record as text, "" if it is missing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def csv_row(values: Sequence[object]) -> str:
    """Return *values* as one line of CSV (RFC 4180); a spreadsheet takes none of them for a formula."""
    out = io.StringIO()
    cells = [_CONTROLS.sub(_escaped, cell(value)) for value in values]
    csv.writer(out, lineterminator="").writerow(
        f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell for cell in cells
    )
    return out.getvalue()


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def csv_record(record: Record) -> str:
    """Return *record* as one line of CSV: CSV_COLUMNS and, in one cell, its index values."""
    pairs = "; ".join(f"{name}={value}" for name, value in _index(record))
    return csv_row([*(record.get(name, "") for name in CSV_COLUMNS), pairs])


def _index(record: Record) -> Iterator[tuple[str, str]]:
    """Yield name and value of the kept headers of the request, then of the response, whose names get a prefix."""
    for member, whose in (("index", ""), ("answer_index", "answer's ")):
        index = record.get(member)
        if isinstance(index, dict):
            yield from ((f"{whose}{name}", str(value)) for name, value in index.items())


def timeline(record: Record) -> str:
    """Return *record* in full: request and decisions, then the events with their times, and whether it was sent."""
    if record.get("kind") not in {"exchange", "intent"}:
        return facts([(name, cell(value)) for name, value in record.items()])
    rows = [(name, cell(record.get(name))) for name in _FACTS if record.get(name) not in {None, "", False}]
    rows += _index(record)
    if record.get("kind") == "intent":
        sent = "unknown: there is an intent and no record yet; it is in flight, or its worker has just crashed"
        return f"{_title(record)}\n{facts(rows)}\n\nsent_upstream  {paint(sent, 'yellow')}"
    sent = cell(record.get("sent_upstream"))
    return "\n".join(
        [
            _title(record),
            facts(rows),
            "",
            *(f"{at:>11}  {what}" for at, what in _happened(record)),
            "",
            f"sent_upstream  {paint(sent, _SENT_COLOURS.get(sent, 'white'))}",
        ]
    )


_FACTS = (
    *("caller", "caller_proof", "client_address", "route", "upstream", "credential", "audience", "side", "why"),
    *("environment", "instance", "sequence", "request_bytes", "response_bytes", "code", "cause", "note", "replayed"),
    *("caller_left", "body_hmac", "config_digest"),
)


def _title(record: Record) -> str:
    title = f"{cell(record.get('id'))}  {local_text(record.get('time'), precise=True)}  {cell(record.get('method'))} "
    return printable(title + cell(record.get("path")))


def _happened(record: Record) -> list[tuple[str, str]]:
    started = _seconds(record.get("time"))
    rows = [("0.0 ms", f"{cell(record.get('client_address')) or 'the caller'} asked")]
    attempts = record.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], start=1):
        sent_at = _seconds(attempt.get("started"))
        after = f"{(sent_at - started) * 1000:.1f} ms" if started and sent_at else ""
        status = f"answered {attempt['status']}" if attempt.get("status") else "no answer"
        connect, wait = cell(attempt.get("connect_ms")), cell(attempt.get("wait_ms"))
        what = f"attempt {number}: connect {connect} ms, wait {wait} ms, {status}, sent {cell(attempt.get('sent'))}"
        rows.append((after, f"{what} (token {cell(attempt.get('token_fingerprint'))})"))
    total = record.get("duration_ms")
    rows.append(
        (f"{cell(total)} ms" if total else "", f"{_end(record)}; {cell(record.get('overhead_ms'))} ms in the proxy")
    )
    if isinstance(at := record.get("caller_left_ms"), int | float):
        # At its place among the events, before those at the same time.
        place = next((n for n, row in enumerate(rows) if n and _is_after(row[0], at)), len(rows) - 1)
        rows.insert(place, (f"{at:.1f} ms", "the caller left"))
    return [(at, printable(what)) for at, what in rows]


def _is_after(shown: str, milliseconds: float) -> bool:
    try:
        return float(shown.removesuffix(" ms")) >= milliseconds
    except ValueError:
        return False


def _end(record: Record) -> str:
    answer = f"{cell(record.get('status'))} from the {cell(record.get('origin'))}" if record.get("status") else ""
    if record.get("caller_left") is True:
        return f"{answer}: the caller left before it had all of it" if answer else "no answer: the caller had left"
    return f"{answer} to the caller" if answer else "no answer to the caller"


def left(record: Record) -> str:
    """Return in words that the caller of *record* left, and after how long if that is known."""
    after = record.get("caller_left_ms")
    return f"caller left after {after / 1000:.1f} s" if isinstance(after, int | float) else "caller left"


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
