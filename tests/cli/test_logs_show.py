import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

from proxy.errors import Sent
from tests.cli.logs import DATA, make_log
from tests.cli.support import run
from tests.records.kept import operation, record
from tests.records.support import NOW, an_attempt, an_exchange, intend, open_journal


def show(folder: Path, text: bytes, *arguments: str) -> str:
    """Return what is shown of the record *text*."""
    done = run("logs", "show", json.loads(text)["id"], *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_timeline_tells_what_happened_when(tmp_path: Path) -> None:
    """Both attempts with connect and wait, the total, and whether it was sent."""
    attempts = [
        an_attempt(status=401, started_wall=NOW + 0.002, connect_ms=21.5, wait_ms=30.25, token_fingerprint="aa"),
        an_attempt(status=200, started_wall=NOW + 0.1, wait_ms=12, token_fingerprint="bb"),
    ]
    (line,) = make_log(
        tmp_path, [record(NOW, finished=100.25, attempts=attempts, replayed=True, index=(("request-id", "r1"),))]
    )
    rows = [row.split() for row in show(tmp_path, line).splitlines()]

    assert rows[0][0] == json.loads(line)["id"]
    assert rows[0][1:3] == ["2027-01-15", "08:00:00.123+00:00"]
    assert rows[0][3:] == ["POST", "/payment/v2/payments"]
    assert ["request-id", "r1"] in rows
    assert ["replayed", "true"] in rows
    happened = [" ".join(row) for row in rows[rows.index([]) + 1 :] if row]
    assert happened == [
        "0.0 ms 10.20.1.2 asked",
        "2.0 ms attempt 1: connect 21.5 ms, wait 30.25 ms, answered 401, sent yes (token aa)",
        "100.0 ms attempt 2: connect 0.0 ms, wait 12.0 ms, answered 200, sent yes (token bb)",
        "250.0 ms 200 from the bank to the caller; 238.0 ms in the proxy",
        "sent_upstream yes",
    ]


def test_an_exchange_without_an_answer(tmp_path: Path) -> None:
    """Nobody knows, and that is said."""
    attempts = [an_attempt(status=0, sent=Sent.UNKNOWN)]
    (line,) = make_log(tmp_path, [record(attempts=attempts, status=0, note="worker_ended")])
    shown = show(tmp_path, line)

    assert "no answer, sent unknown" in shown
    assert "no answer to the caller" in shown
    assert "worker_ended" in shown
    assert shown.rstrip().endswith("unknown")


def test_other_kinds_are_shown_with_all_they_say(tmp_path: Path) -> None:
    """And --json gives the record."""
    (line,) = make_log(tmp_path, [operation()])

    assert "rollback" in show(tmp_path, line)
    assert json.loads(show(tmp_path, line, "--json")) == json.loads(line)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Callers choose paths and header values."""
    (line,) = make_log(tmp_path, [record(path="/\x1b[31m", index=(("request-id", "\x1b]0;x\x07"),))])

    assert "\x1b" not in show(tmp_path, line)
    assert "\x1b" not in run("logs", "search", cwd=tmp_path).stdout


def test_a_request_in_flight_is_found_by_its_intent(tmp_path: Path) -> None:
    """In the journal, which every request that can move money is in before it is sent."""
    make_log(tmp_path, [])
    exchange = an_exchange()

    async def asked() -> str:
        async with open_journal(tmp_path / DATA) as journal:
            await intend(journal, exchange)
            done = await asyncio.to_thread(run, "logs", "show", exchange.id, cwd=tmp_path)
            return done.stdout

    assert "there is an intent and no record yet" in asyncio.run(asked())


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """With 1; an id that is none is a usage error."""
    make_log(tmp_path, [])

    assert run("logs", "show", an_exchange().id, cwd=tmp_path).returncode == 1
    for bad in ("x", "", "1234", "zz" * 16):
        assert run("logs", "show", bad, cwd=tmp_path).returncode == 2


def test_a_row_with_another_record_is_not_shown(tmp_path: Path) -> None:
    """Ids were swapped in the table: what a record says is what it is."""
    one, two = make_log(tmp_path, [record(NOW), record(NOW + 1)])
    [path] = (tmp_path / DATA).glob("requests-*.db")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM records WHERE rowid = 2")
        connection.execute("UPDATE records SET id = ?", (bytes.fromhex(json.loads(two)["id"].replace("-", "")),))

    done = run("logs", "show", json.loads(two)["id"], cwd=tmp_path)

    assert done.returncode == 1
    assert json.loads(one)["id"] in done.stderr
