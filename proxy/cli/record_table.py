"""Records as a table for a terminal: one line each on a wide terminal, two on a narrow one."""

import shutil
from collections.abc import Mapping
from typing import Any

import click

from proxy.cli.output import emit_record, paint, printable
from proxy.cli.record_text import CSV_COLUMNS, csv_record, csv_row
from proxy.records.record_words import cell, left, summary
from proxy.records.sinks.row import decode
from proxy.times import local_text

Record = Mapping[str, Any]

_INDENT = "    "
_ID = 36
_TIME = len("2026-11-24 09:30:04+01:00")
_CALLER = 10
# Widths of time with milliseconds, id, caller, status, sent, milliseconds and the request.
_WHOLE = (29, _ID, _CALLER, 6, 7, 9, 0)
# Time, id, caller, status and sent take 89 columns; with less than 60 for the rest the id goes on a second line.
_ONE_LINE = 149


class RecordTable:
    """Renders records in the terminal's columns; without a terminal, or if *wide*, each on one whole line.

    Time, caller, method and path, status, whether it was sent, and the id are always there; the rest is cut off.
    """

    def __init__(self, *, wide: bool) -> None:
        self._width = 0 if wide else shutil.get_terminal_size(fallback=(0, 0)).columns

    def head(self) -> str:
        """Return the header line or lines."""
        if not self._width:
            return self._whole("time", "id", "caller", "status", "sent", "ms", "request")
        if self._width >= _ONE_LINE:
            return self._cut(f"{self._front('time')}{'id':<{_ID}} {self._middle('caller', 'status', 'sent')}request")
        return self._cut(f"{self._front('time')}{self._middle('caller', 'status', 'sent')}request\n{_INDENT}id")

    def row(self, record: Record) -> str:
        """Return *record* as a line or two."""
        sent = cell(record.get("sent_upstream"))
        if not self._width:
            row = self._whole_row(record, sent)
        elif self._width >= _ONE_LINE:
            row = self._one_line(record, sent)
        else:
            row = self._two_lines(record, sent)
        return paint(row, "yellow") if sent == "unknown" else row

    def _whole_row(self, record: Record, sent: str) -> str:
        time, id_, caller = local_text(record.get("time"), precise=True), cell(record.get("id")), _caller(record)
        if record.get("kind") != "exchange":
            return self._whole(time, id_, caller, "", "", "", _other(record))
        text = "  ".join([_asked(record), *_marks(record), *_notes(record)])
        return self._whole(time, id_, caller, cell(record.get("status")), sent, cell(record.get("duration_ms")), text)

    @staticmethod
    def _whole(*cells: str) -> str:
        padded = [f"{text:<{width}}" for text, width in zip(cells, _WHOLE, strict=True)]
        return printable(" ".join(padded)).rstrip()

    def _one_line(self, record: Record, sent: str) -> str:
        front = f"{self._front(local_text(record.get('time')))}{cell(record.get('id')):<{_ID}} "
        if record.get("kind") != "exchange":
            return self._cut(f"{front}{_other(record)}")
        front += self._middle(_caller(record), cell(record.get("status")), sent)
        marks = "".join(f"  {mark}" for mark in _marks(record))
        notes = "".join(f"  {note}" for note in _notes(record))
        # Two more, for where the notes are cut off.
        asked = shortened(_asked(record), self._width - len(front) - len(marks) - 2)
        return self._cut(f"{front}{asked}{marks}{notes}")

    def _two_lines(self, record: Record, sent: str) -> str:
        front = self._front(local_text(record.get("time")))
        below = _INDENT + cell(record.get("id"))
        if record.get("kind") != "exchange":
            return self._cut(f"{front}{_other(record)}\n{below}")
        front += self._middle(_caller(record), cell(record.get("status")), sent)
        for note in [*_marks(record), *_notes(record), f"{cell(record.get('duration_ms'))} ms"]:
            if len(below) + 2 + len(note) <= self._width:
                below += f"  {note}"
        return self._cut(f"{front}{shortened(_asked(record), self._width - len(front))}\n{below}")

    @staticmethod
    def _front(time: str) -> str:
        return f"{time:<{_TIME}} "

    @staticmethod
    def _middle(caller: str, status: str, sent: str) -> str:
        return f"{shortened(caller, _CALLER):<{_CALLER}} {status:<6} {sent:<7} "

    def _cut(self, text: str) -> str:
        lines = [printable(line).rstrip() for line in text.split("\n")]
        return "\n".join(line if len(line) <= self._width else f"{line[: self._width - 1]}…" for line in lines)


def _caller(record: Record) -> str:
    return cell(record.get("caller"))


def _asked(record: Record) -> str:
    # No line break: each line belongs to one record.
    return f"{cell(record.get('method'))} {cell(record.get('path'))}".replace("\n", "\ufffd")


def _other(record: Record) -> str:
    return f"{cell(record.get('kind'))}: {summary(record)}".replace("\n", " ")


def _marks(record: Record) -> list[str]:
    """Return the notes that must not be cut off."""
    marks = ["replayed"] if record.get("replayed") is True else []
    return [*marks, left(record)] if record.get("caller_left") is True else marks


def _notes(record: Record) -> list[str]:
    """Return the other notes, the most important first."""
    return list(filter(None, (cell(record.get(name)) for name in ("code", "note", "side", "route"))))


def shortened(text: str, room: int) -> str:
    """Return *text* in at most *room* characters, its start and its end: a path's end is its most specific part."""
    if len(text) <= room or room < 3:
        return text
    begin = (room - 1) // 2
    return f"{text[:begin]}…{text[begin - room + 1 :]}"


class RecordPrinter:
    """Prints records: as they are stored (*as_json*), as CSV, or as a table with a header."""

    def __init__(self, *, as_json: bool = False, as_csv: bool = False, wide: bool = False) -> None:
        self.printed = 0
        self._as_json = as_json
        self._as_csv = as_csv
        self._table = RecordTable(wide=wide)

    def print(self, record: bytes) -> None:
        """Print *record*, before the first one the header."""
        if self._as_json:
            emit_record(record)
        elif self._as_csv:
            if not self.printed:
                click.echo(csv_row([*CSV_COLUMNS, "index"]))
            click.echo(csv_record(decode(record)))
        else:
            if not self.printed:
                click.echo(self._table.head())
            click.echo(self._table.row(decode(record)))
        self.printed += 1
