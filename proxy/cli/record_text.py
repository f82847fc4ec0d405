"""Records as people read them: a row of a table, a row of CSV, a timeline."""

import csv
import io
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from proxy.cli.output import facts, paint, printable

Record = Mapping[str, Any]

CSV_COLUMNS = (
    *("time", "id", "kind", "instance", "sequence", "caller", "client_address", "method", "path", "route", "upstream"),
    *("credential", "audience", "side", "status", "origin", "code", "sent_upstream", "replayed", "caller_left"),
    *("duration_ms", "overhead_ms", "request_bytes", "response_bytes"),
)

# Title, width; the last column takes what is left.
_COLUMNS = (("time", 23), ("id", 36), ("caller", 10), ("status", 6), ("sent", 7), ("ms", 9), ("request", 0))
_SENT_COLOURS = {"unknown": "yellow", "yes": "green"}
# A cell that begins like this is a formula to a spreadsheet.
# C0 but for tab and line feed, DEL and C1: JSON's way of writing them does no harm to a terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_head() -> str:
    """Return the line above the rows."""
    return _row([title for title, _ in _COLUMNS])


def table_row(record: Record) -> str:
    """Return *record* as one line, cut to the terminal's width if there is one."""
    sent = _cell(record.get("sent_upstream"))
    if record.get("kind") == "exchange":
        request = f"{_cell(record.get('method'))} {_cell(record.get('path'))}"
        notes = [_cell(record.get("route")), _cell(record.get("code")), _cell(record.get("note"))]
        request += "".join(f"  {note}" for note in notes if note)
        shown = [_cell(record.get("status")), sent, _cell(record.get("duration_ms"))]
    else:
        request = f"{_cell(record.get('kind'))}: {summary(record)}"
        shown = ["", "", ""]
    line = _row([_cell(record.get("time"))[:23], _cell(record.get("id")), _cell(record.get("caller")), *shown, request])
    colour = _SENT_COLOURS.get(sent)
    return line if colour != "yellow" else paint(line, colour)


def summary(record: Record) -> str:
    """Return in some words what a record other than of an exchange says."""
    names = ("event", "what", "who", "reason", "credential", "audience", "code", "cause", "count")
    return ", ".join(_cell(record[name]) for name in names if record.get(name))


def csv_row(values: Sequence[object]) -> str:
    """Return *values* as one line of CSV (RFC 4180); nothing in it is a formula to a spreadsheet."""
    out = io.StringIO()
    cells = [_CONTROLS.sub(_escaped, _cell(value)) for value in values]
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
    """Yield name and value of what is kept of the request's headers, then of the answer's, whose names say so."""
    for member, whose in (("index", ""), ("answer_index", "answer's ")):
        index = record.get(member)
        if isinstance(index, dict):
            yield from ((f"{whose}{name}", str(value)) for name, value in index.items())


def timeline(record: Record) -> str:
    """Return *record* in full: what was asked and decided, then what happened when, and whether it was sent."""
    if record.get("kind") not in {"exchange", "intent"}:
        return facts([(name, _cell(value)) for name, value in record.items()])
    rows = [(name, _cell(record.get(name))) for name in _FACTS if record.get(name) not in {None, "", False}]
    rows += _index(record)
    if record.get("kind") == "intent":
        sent = "unknown: there is an intent and no record yet; it is in flight, or its worker has just died"
        return f"{_title(record)}\n{facts(rows)}\n\nsent_upstream  {paint(sent, 'yellow')}"
    sent = _cell(record.get("sent_upstream"))
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
    title = f"{_cell(record.get('id'))}  {_cell(record.get('time'))}  {_cell(record.get('method'))} "
    return printable(title + _cell(record.get("path")))


def _happened(record: Record) -> list[tuple[str, str]]:
    began = _seconds(record.get("time"))
    rows = [("0.0 ms", f"{_cell(record.get('client_address')) or 'the caller'} asked")]
    attempts = record.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], start=1):
        started = _seconds(attempt.get("started"))
        after = f"{(started - began) * 1000:.1f} ms" if began and started else ""
        status = f"answered {attempt['status']}" if attempt.get("status") else "no answer"
        connect, wait = _cell(attempt.get("connect_ms")), _cell(attempt.get("wait_ms"))
        what = f"attempt {number}: connect {connect} ms, wait {wait} ms, {status}, sent {_cell(attempt.get('sent'))}"
        rows.append((after, f"{what} (token {_cell(attempt.get('token_fingerprint'))})"))
    total = record.get("duration_ms")
    end = (
        f"{_cell(record.get('status'))} from the {_cell(record.get('origin'))} to the caller"
        if record.get("status")
        else "no answer to the caller"
    )
    rows.append((f"{_cell(total)} ms" if total else "", f"{end}; {_cell(record.get('overhead_ms'))} ms in the proxy"))
    return [(at, printable(what)) for at, what in rows]


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _row(cells: Sequence[str]) -> str:
    padded = [f"{cell:<{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True)]
    line = printable(" ".join(padded)).rstrip()
    width = shutil.get_terminal_size(fallback=(0, 0)).columns
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
