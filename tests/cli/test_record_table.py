import json
from typing import Any

import pytest

from proxy.cli.record_table import RecordTable
from proxy.errors import Sent
from tests.records.kept import operation, record

PATH = "/payment/v2/payments/0198c5a2-7b1f-7cc3-98c4-dc0c0c07398f/refunds"


def values(**changes: Any) -> dict[str, Any]:
    """Return a record as it is read."""
    read: dict[str, Any] = json.loads(record(caller="settlement-eu", path=PATH, **changes))
    return read


@pytest.fixture(params=[80, 100, 150])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give the terminal a width."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def test_what_matters_is_always_there(width: int) -> None:
    """Time with offset, caller, method and both ends of the path, status, whether it was sent, and the whole id."""
    told = values(sent=Sent.UNKNOWN, replayed=True, caller_left=True, left_at=102.1, status=502, code="upstream_reset")
    row = RecordTable(wide=False).row(told)

    assert all(len(line) <= width for line in row.split("\n")), row
    for words in ("+00:00", "sett…nt-eu", "POST /pay", "refunds", " 502 ", " unknown ", told["id"], "replayed"):
        assert words in row, row
    assert "caller left after 2.1 s" in row
    assert len(RecordTable(wide=False).head().split("\n")) == len(row.split("\n")) == (1 if width == 150 else 2)


def test_wide_cuts_nothing(width: int) -> None:
    """Each record is one whole line, as where stdout is no terminal."""
    row = RecordTable(wide=True).row(values(replayed=True))

    assert "\n" not in row
    assert len(row) > width
    for words in ("settlement-eu", PATH, "replayed", "payments"):
        assert words in row


def test_without_a_terminal_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script gets one line a record."""
    monkeypatch.delenv("COLUMNS", raising=False)
    told = values()
    assert RecordTable(wide=False).row(told) == RecordTable(wide=True).row(told)


def test_other_kinds_fit_too(width: int) -> None:
    """With their id."""
    told = json.loads(operation(what="x" * 300))
    row = RecordTable(wide=False).row(told)

    assert all(len(line) <= width for line in row.split("\n"))
    assert told["id"] in row


def test_callers_bring_no_lines_of_their_own(width: int) -> None:
    """A path or method with a line break stays within its record."""
    row = RecordTable(wide=False).row({**values(), "path": "/a\n/b\x1b[31m", "method": "G\nET"})

    assert len(row.split("\n")) == (1 if width == 150 else 2)
    assert "\x1b" not in row
