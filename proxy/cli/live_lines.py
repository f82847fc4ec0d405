"""The output of `serve` on a terminal instead of JSON: one short line per request or operation."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from proxy.cli.output import paint, printable
from proxy.cli.record_table import shortened
from proxy.records.record_words import cell, left, summary
from proxy.records.sinks.row import decode

_ROOM_FOR_PATH = 12


def clock_time(seconds: float) -> str:
    """Return epoch *seconds* as local time of day."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S")


def live_line(record: bytes) -> bytes:
    """Return *record* as a line for people, b"" if the keeper's own log reports it already."""
    try:
        values = decode(record)
        if values["kind"] == "exchange":
            return _request(values).encode()
        if values["kind"] == "operation" or values.get("event") == "printed":
            return _line(values, f"{values['kind']}: {summary(values)}").encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return record
    return b""


def _request(values: Mapping[str, Any]) -> str:
    sent, status = cell(values["sent_upstream"]), values["status"]
    failed = bool(values["code"]) or sent == "unknown" or values["caller_left"] is True or status >= 400 or not status
    front = f"{status or '---'} {cell(values['method'])} "
    after = [f"{values['duration_ms']:.0f} ms", *filter(None, (cell(values["caller"]), cell(values["side"])))]
    if values["replayed"] is True:
        after.append("replayed")
    if values["caller_left"] is True:
        after.append(left(values))
    if failed:
        after += [*filter(None, [cell(values["code"]), cell(values["note"])]), f"sent {sent}"]
    # The id leads to the details (`payproxy logs show ID`), which nobody needs for a success.
    tail = "  ".join(["", *after, *([cell(values["id"])] if failed else [])])
    room = shutil.get_terminal_size().columns - len("09:30:04 ") - len(front) - len(tail)
    path = shortened(cell(values["path"]), max(room, _ROOM_FOR_PATH))
    line = _line(values, f"{front}{path}{tail}")
    colour = "yellow" if sent == "unknown" else "red" if status >= 500 or not status else ""
    return paint(line, colour) if colour else line


def _line(values: Mapping[str, Any], text: str) -> str:
    at = datetime.fromisoformat(values["time"]).timestamp()
    return f"{clock_time(at)} {printable(text).replace(chr(10), ' ')}"
