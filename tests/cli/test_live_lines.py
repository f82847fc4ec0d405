import json
import subprocess
import sys
from typing import Any

import pytest

from proxy.cli.live_lines import live_line
from proxy.errors import Sent
from tests.records.kept import operation, record
from tests.records.support import NOW


def shown(**values: Any) -> str:
    """Return the line of such a request."""
    return live_line(record(NOW, **values)).decode()


def test_what_went_well_is_short() -> None:
    """Time of day, status, method, path, how long it took, who, and on which side."""
    assert shown() == "08:00:00 200 POST /payment/v2/payments  12 ms  erp  modern"


def test_what_did_not_can_be_looked_up() -> None:
    """The code, whether it was sent, and the id for `logs show`; also of who left."""
    text = record(NOW, status=502, origin="proxy", code="upstream_reset", sent=Sent.UNKNOWN, replayed=True)
    line = live_line(text).decode()

    for words in (" 502 ", "replayed", "upstream_reset", "sent unknown", json.loads(text)["id"]):
        assert words in line
    assert "caller left after 3.0 s  sent yes" in shown(caller_left=True, left_at=103.0)
    assert " --- POST " in shown(status=0)


def test_a_long_path_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end stays: it is what the request is about."""
    monkeypatch.setenv("COLUMNS", "80")
    line = shown(path="/payment/" + "x" * 300 + "/refunds")

    assert len(line) == 80
    assert "/refunds" in line


def test_what_people_did_is_shown_and_what_the_keeper_says_is_not_said_twice() -> None:
    """Operations have no other line; what is no record is passed on."""
    assert live_line(operation(NOW)).decode() == "08:00:00 operation: rollback, anna, too slow"
    assert live_line(b'{"kind":"lifecycle","time":"2027-01-15T08:00:00Z","event":"checkpoint"}') == b""
    assert live_line(b"[]") == b"[]"
    assert live_line(b'{"kind":"exchange"}') == b'{"kind":"exchange"}'


def test_times_are_local() -> None:
    """Nobody at a terminal counts in UTC."""
    code = "from proxy.cli.live_lines import clock_time; print(clock_time(1_800_000_000.0))"
    berlin = {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=berlin)

    assert done.stdout == "09:00:00\n"


def test_callers_do_not_steer_the_terminal() -> None:
    """Nor begin lines of their own."""
    line = shown(path="/a\x1b[31m\n/b")
    assert ("\x1b" in line, "\n" in line) == (False, False)
