"""Records as text for people: a row of CSV, a timeline."""

import csv
import io
import struct
from collections.abc import Iterator, Sequence

from proxy.cli.output import facts, paint, printable
from proxy.records.record_words import Record, cell, happened, signature
from proxy.times import local_text

CSV_COLUMNS = (
    *("time", "id", "kind", "instance", "sequence", "caller", "client_address", "method", "path", "route", "upstream"),
    *("credential", "audience", "side", "status", "origin", "code", "sent_upstream", "replayed", "caller_left"),
    *("duration_ms", "overhead_ms", "request_bytes", "response_bytes", "caller_left_ms"),
)

_SENT_COLOURS = {"unknown": "yellow", "yes": "green"}
# A spreadsheet takes a cell with such a first character for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_row(values: Sequence[object]) -> str:
    """Return *values* as one line of CSV (RFC 4180); a spreadsheet takes none of them for a formula."""
    out = io.StringIO()
    cells = ["".join(map(_escaped, cell(value))) for value in values]
    csv.writer(out, lineterminator="").writerow(
        f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell for cell in cells
    )
    return out.getvalue()


def _escaped(character: str) -> str:
    """Return *character*, a control character or mark of direction as JSON has it: then no terminal interprets it."""
    if character.isprintable() or character in "\t\n":
        return character
    return "".join(
        f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", character.encode("utf-16-be", "surrogatepass"))
    )


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
    rows += [("body sent", how)] if (how := signature(record)) else []
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
            *(f"{at:>11}  {printable(what)}" for at, what in happened(record)),
            "",
            f"sent_upstream  {paint(sent, _SENT_COLOURS.get(sent, 'white'))}",
        ]
    )


_FACTS = (
    *("caller", "caller_proof", "client_address", "route", "upstream", "upstream_url", "credential", "client_digest"),
    *("audience", "side", "why"),
    *("environment", "instance", "sequence", "request_bytes", "response_bytes", "code", "cause", "note", "replayed"),
    *("caller_left", "ended", "body_hmac", "config_digest"),
)


def _title(record: Record) -> str:
    title = f"{cell(record.get('id'))}  {local_text(record.get('time'), precise=True)}  {cell(record.get('method'))} "
    return printable(title + cell(record.get("path")))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
