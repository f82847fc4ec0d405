import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import logs_search
from proxy.cli.record_table import RecordPrinter
from proxy.clock import SystemClock
from proxy.errors import Sent
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Page
from tests.cli.logs import DATA, make_log
from tests.cli.support import run, run_process
from tests.records.kept import operation, record
from tests.records.support import NOW, an_attempt

CARD = "4111111111111111"


def log() -> list[bytes]:
    """Return some records, a second apart."""
    return [
        record(NOW, caller="erp", index=(("merchant-id", "998"), ("requestId", "r0"))),
        record(NOW + 1, caller="crm", status=502, origin="proxy", code="upstream_reset", sent=Sent.UNKNOWN),
        record(NOW + 2, caller="erp", path=f"/pay/{CARD}", index=(("Idempotency-Key", CARD),)),
        operation(NOW + 3),
        record(NOW + 4, caller="erp", method="=cmd", index=(("merchantId", "998"), ("request-id", '=1+1,"x"'))),
    ]


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((), (4, 3, 2, 1, 0)),
        (("--caller", "erp"), (4, 2, 0)),
        (("--route", "payments", "--limit", "2"), (4, 2)),
        (("--status", "5xx"), (1,)),
        (("--sent", "unknown"), (1,)),
        (("--origin", "proxy", "--side", "modern"), (1,)),
        (("--kind", "operation"), (3,)),
        (("--merchant", "998"), (4, 0)),
        (("--request-id", "r0"), (0,)),
        (("--idempotency-key", CARD), (2,)),
        (("--index", "merchant_id=998", "--index", "requestid=r0"), (0,)),
        (("--since", "2027-01-15T08:00:02Z", "--until", "2027-01-15T08:00:04"), (3, 2)),
    ],
)
def test_filters_find_records(tmp_path: Path, arguments: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    """With --json as they are kept, byte for byte, the newest first; masked values by what they were."""
    lines = make_log(tmp_path, log())
    done = run("logs", "search", "--json", *arguments, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.encode().splitlines() == [lines[number] for number in numbers]
    assert ("more than 2" in done.stderr) == ("--limit" in arguments)


def test_since_is_from_now(tmp_path: Path) -> None:
    """Two hours ago is two hours ago."""
    now = SystemClock().now()
    lines = make_log(tmp_path, [record(now - 7300), record(now - 7100)])
    done = run("logs", "search", "--json", "--since", "2h", cwd=tmp_path)

    assert done.stdout.encode().splitlines() == lines[1:]


def test_a_table_is_for_people(tmp_path: Path) -> None:
    """One line a record below a head; nothing of the card number."""
    make_log(tmp_path, log())
    done = run("logs", "search", cwd=tmp_path)
    rows = done.stdout.splitlines()

    assert rows[0].split() == ["time", "id", "caller", "status", "sent", "ms", "request"]
    assert len(rows) == 6
    assert "operation: rollback, anna, too slow" in rows[2]
    assert rows[4].split()[3:6] == ["crm", "502", "unknown"]
    assert "upstream_reset" in rows[4]
    assert CARD not in done.stdout


def test_csv_is_for_spreadsheets(tmp_path: Path) -> None:
    """What callers gave is no formula there, and quotes are doubled."""
    lines = make_log(tmp_path, log())
    done = run("logs", "search", "--csv", "--kind", "exchange", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))

    assert [row["id"] for row in rows] == [json.loads(lines[number])["id"] for number in (4, 2, 1, 0)]
    assert rows[0]["method"] == "'=cmd"
    assert rows[0]["index"] == 'merchantId=998; request-id==1+1,"x"'
    assert (rows[2]["status"], rows[2]["sent_upstream"], rows[2]["caller_left"]) == ("502", "unknown", "false")


def test_nothing_found_is_said(tmp_path: Path) -> None:
    """On stderr; a script sees no data and 0."""
    make_log(tmp_path, [])
    done = run("logs", "search", "--status", "404", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing was found" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--caller", "nobody"), 'no caller is called "nobody"'),
        (("--route", "paiments"), 'no route is called "paiments"; did you mean "payments"?'),
        (("--index", "x-trace=1"), "records keep no header x-trace"),
        (("--since", "2026-01-15T09:00Z", "--until", "2026-01-15T08:00Z"), "the window is empty"),
        (("--since", "2999-01-01"), "is still to come"),
        (("--kind", "operation", "--status", "404"), "records of kind operation have nothing to compare it with"),
        (("--status", "700"), "a status is 100 to 599"),
    ],
)
def test_a_filter_that_cannot_match_is_an_error(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """With 2 and no data, for tail as for search: an empty answer would pass for a true one."""
    make_log(tmp_path, [record(NOW)])
    for command in ("search", "tail"):
        done = run("logs", command, *arguments, "--json", cwd=tmp_path, env={"COLUMNS": "400"})

        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_who_is_no_longer_configured_is_found_all_the_same(tmp_path: Path) -> None:
    """The log is older than the configuration."""
    lines = make_log(tmp_path, [record(NOW, caller="gone", index=(("x-old", "1"),))])
    done = run("logs", "search", "--json", "--caller", "gone", "--index", "x-old=1", cwd=tmp_path)

    assert done.stdout.encode().splitlines() == lines


def test_a_time_without_a_zone_is_local_and_that_is_said(tmp_path: Path) -> None:
    """Half past nine in Berlin is half past eight in UTC; the table has the offset too."""
    make_log(tmp_path, [record(NOW, path="/before"), record(NOW + 1800, path="/after")])
    berlin = {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    done = run_process("logs", "search", "--since", "2027-01-15T09:30", cwd=tmp_path, env=berlin)

    assert "--since 2027-01-15T09:30 is taken as local time: 2027-01-15 09:30:00+01:00" in done.stderr
    assert ("/after" in done.stdout, "/before" in done.stdout) == (True, False)
    assert "2027-01-15 09:30:00.123+01:00" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--status", "bad"),
        ("--since", "yesterday"),
        ("--index", "merchant"),
        ("--index", "=x"),
        ("--sent", "maybe"),
        ("--kind", "payment"),
        ("--limit", "0"),
        ("--csv", "--json"),
    ],
)
def test_wrong_filters_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Before anything is opened."""
    make_log(tmp_path, [])

    assert run("logs", "search", *arguments, cwd=tmp_path).returncode == 2


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    """Rather than that nothing was found."""
    make_log(tmp_path, [], settings='database = ""')
    done = run("logs", "search", cwd=tmp_path)

    assert done.returncode == 1
    assert "request_log.database is turned off" in done.stderr


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Without a trace of Python."""
    make_log(tmp_path, [record()])
    (tmp_path / DATA / "requests-2027-01.db").write_bytes(b"no database" * 1000)
    done = run("logs", "search", cwd=tmp_path)

    assert done.returncode == 1
    assert "requests-2027-01.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_database_can_be_named(tmp_path: Path) -> None:
    """By a file of mode 0600, such as that of a role which may read; its URL is not shown."""
    lines = make_log(tmp_path, [record()])
    other = tmp_path / "reader.url"
    other.write_text("sqlite:requests.db\n")
    other.chmod(0o600)
    asked = ("logs", "search", "--json", "--database-file", str(other))
    assert run(*asked, cwd=tmp_path).stdout.encode().splitlines() == lines

    other.chmod(0o644)
    done = run(*asked, cwd=tmp_path)
    assert done.returncode == 78
    assert "chmod 600" in done.stderr

    other.chmod(0o600)
    other.write_text("postgresql://reader:hunter2@127.0.0.1:1/log")
    done = run(*asked, cwd=tmp_path)
    assert done.returncode == 1
    assert "can't be reached" in done.stderr
    assert "hunter2" not in done.stderr


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """C1 as little as C0, whatever is printed; found by its value all the same."""
    make_log(tmp_path, [record(NOW, path="/a\x9b2J", index=(("request-id", "\x9b\x7fr"),))])

    for arguments in (["--json"], ["--csv"], []):
        for command in (["search", "--request-id", "\x9b\x7fr"], ["tail"]):
            if command != ["tail"] or arguments != ["--csv"]:
                done = run("logs", *command, *arguments, cwd=tmp_path)
                assert "2J" in done.stdout, (command, arguments, done.stderr)
                assert not any(0x7F <= ord(character) < 0xA0 for character in done.stdout)


def test_what_was_found_is_printed_before_the_rest_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search without an index reads the whole log, which takes seconds a million."""
    wanted = {1999: record(NOW + 1999, route="refunds"), 0: record(NOW, route="refunds")}
    lines = make_log(tmp_path, [wanted.get(number) or record(NOW + number) for number in range(2000)])
    done: list[str] = []
    page, printed = SqliteArchive.page, RecordPrinter.print

    async def searched(self: SqliteArchive, *arguments: Any, **named: Any) -> Page:
        done.append("search")
        return await page(self, *arguments, **named)

    def prints(self: RecordPrinter, line: bytes) -> None:
        done.append("print")
        printed(self, line)

    monkeypatch.setattr(SqliteArchive, "page", searched)
    monkeypatch.setattr(RecordPrinter, "print", prints)
    monkeypatch.setattr(logs_search, "_PAGE_SECONDS", 0.0)
    found = run("logs", "search", "--json", "--route", "refunds", cwd=tmp_path)

    assert found.stdout.encode().splitlines() == [lines[1999], lines[0]]
    assert done[:3] == ["search", "print", "search"]
    assert done[-2:] == ["search", "print"]


def test_what_changes_nothing_is_never_open(tmp_path: Path) -> None:
    """A GET of unknown outcome can be sent again, and no inquiry could settle it."""
    unknown: dict[str, Any] = {"status": 504, "origin": "proxy", "attempts": [an_attempt(status=0, sent=Sent.UNKNOWN)]}
    _, post = make_log(tmp_path, [record(NOW, method="GET", **unknown), record(NOW + 1, method="POST", **unknown)])
    all_of_them = run("logs", "search", "--sent", "unknown", "--json", cwd=tmp_path)
    still_open = run("logs", "search", "--sent", "unknown", "--open", "--json", cwd=tmp_path)

    assert len(all_of_them.stdout.splitlines()) == 2
    assert [json.loads(one)["id"] for one in still_open.stdout.splitlines()] == [json.loads(post)["id"]]
