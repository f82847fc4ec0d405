import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock, timestamp
from proxy.entropy import SystemEntropy, uuid7
from proxy.records.sinks.sqlite import SqliteSink
from tests.cli.logs import DATA, add, make_log
from tests.cli.support import PAYPROXY, environment, run
from tests.records.kept import kept, record
from tests.records.support import MemorySink, an_exchange, complete, open_journal, running_shipper, until

FEBRUARY = 1_769_904_000.0  # 2026-02-01
DAY = 86400.0


def months(folder: Path) -> list[str]:
    """Return the files of the database."""
    return sorted(path.name for path in (folder / DATA).glob("requests*"))


def tombstones(folder: Path) -> list[dict[str, Any]]:
    """Return the records that the proxy finds when it starts."""
    sink = MemorySink()

    async def ship() -> None:
        async with running_shipper(folder / DATA, sink):
            await until(lambda: sink.records)

    asyncio.run(ship())
    return sink.records


def test_whole_months_go_and_a_record_says_so(tmp_path: Path) -> None:
    """By whom, why, which stretch of the chain up to which hash; it reaches the sinks with the next start."""
    times = [FEBRUARY - 40 * DAY, FEBRUARY - 1, FEBRUARY - 0.5, FEBRUARY, FEBRUARY + 20 * DAY]
    lines = make_log(tmp_path, [record(at) for at in times])
    done = run("logs", "prune", "--before", "2026-02-20", "--reason", "kept a year", "--yes", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"month": "2025-12", "records": 1}, {"month": "2026-01", "records": 2}]
    assert months(tmp_path) == ["requests-2026-02.db"]
    (stone,) = tombstones(tmp_path)
    assert (stone["kind"], stone["what"], stone["reason"]) == ("operation", "logs prune", "kept a year")
    assert stone["who"] == "root" or stone["who"]
    assert stone["pruned"] == [{"instance": "host-1", "first": 1, "last": 3, "hash": json.loads(lines[2])["hash"]}]
    assert stone["values"] == {"2025-12": "1 records", "2026-01": "2 records"}


def test_the_month_that_runs_is_never_deleted(tmp_path: Path) -> None:
    """Whatever is asked for."""
    make_log(tmp_path, [record(SystemClock().now())])
    before = months(tmp_path)
    for when in ("2999-01", "0s"):
        done = run("logs", "prune", "--before", when, "--yes", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "no month" in done.stdout
    assert months(tmp_path) == before
    assert timestamp(SystemClock().now())[:7] in before[0]


def test_what_comes_while_the_question_is_open_is_on_the_tombstone(tmp_path: Path) -> None:
    """The proxy delivers what a database that was away has missed, of an old month too."""
    lines = kept(record(FEBRUARY + number) for number in range(20))
    make_log(tmp_path, [])
    add(tmp_path, lines[:10])
    terminal, theirs = os.openpty()
    command: list[str | Path] = [PAYPROXY, "logs", "prune", "--before", "2026-03", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"10 records of 2026-02 are deleted")
        add(tmp_path, lines[10:])
        os.write(terminal, b"y\n")
        said = process.stdout.read()
    os.close(terminal)
    os.close(theirs)

    assert json.loads(said) == [{"month": "2026-02", "records": 20}]
    assert months(tmp_path) == []
    (stone,) = tombstones(tmp_path)
    assert [(one["first"], one["last"]) for one in stone["pruned"]] == [(1, 20)]


def test_nobody_to_ask_means_no(tmp_path: Path) -> None:
    """A script has to say --yes."""
    make_log(tmp_path, [record(FEBRUARY)])
    done = run("logs", "prune", "--before", "2026-03", cwd=tmp_path)

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert months(tmp_path) == ["requests-2026-02.db"]
    assert not (tmp_path / DATA / "journal").exists()


def test_what_can_not_be_put_on_record_is_not_done(tmp_path: Path) -> None:
    """Nothing is ever missing without a record that says so."""
    make_log(tmp_path, [record(FEBRUARY)])
    (tmp_path / DATA / "journal").write_text("in the way")
    done = run("logs", "prune", "--before", "2026-03", "--yes", cwd=tmp_path)

    assert done.returncode == 1
    assert "nothing was deleted" in done.stderr
    assert months(tmp_path) == ["requests-2026-02.db"]


def test_a_time_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """Also no time at all."""
    make_log(tmp_path, [])

    assert run("logs", "prune", "--yes", cwd=tmp_path).returncode == 2
    assert run("logs", "prune", "--before", "always", "--yes", cwd=tmp_path).returncode == 2


async def ship(folder: Path, times: list[float]) -> None:
    """Let the proxy's own journal and shipper write exchanges that began at *times* into the database."""
    sink = SqliteSink(folder / DATA / "requests.db")
    async with open_journal(folder / DATA) as journal, running_shipper(folder / DATA, sink) as shipper:
        before = shipper._stream.end.sequence
        for at in times:
            await complete(journal, an_exchange(id=uuid7(SystemEntropy(), at), started_wall=at))
        wanted = before + len(times) + (not times)
        await until(lambda: shipper._stream.end.sequence >= wanted and shipper.backlog_records == 0)


def test_verify_holds_after_a_prune_and_not_after_a_deletion(tmp_path: Path) -> None:
    """The chain's missing beginning is accounted for by the record, and by nothing else."""
    make_log(tmp_path, [])
    asyncio.run(ship(tmp_path, [FEBRUARY + number * 10 * DAY for number in range(9)]))
    copy = "requests-2026-03.db"
    assert run("logs", "verify", tmp_path / DATA / copy, cwd=tmp_path).returncode == 0

    assert run("logs", "prune", "--before", "2026-03", "--yes", cwd=tmp_path).returncode == 0
    asyncio.run(ship(tmp_path, []))
    left = sorted((tmp_path / DATA).glob("requests-*.db"))
    assert flaws(tmp_path, left) == []

    (tmp_path / DATA / copy).unlink()
    assert "begins_late" in flaws(tmp_path, [path for path in left if path.name != copy])


def flaws(folder: Path, files: list[Path]) -> list[str]:
    """Return what `logs verify` finds in the chain that was pruned; the command's own host has another name."""
    (copy,) = json.loads(run("logs", "verify", *files, "--key", f"{DATA}/checkpoint.key", "--json", cwd=folder).stdout)[
        "copies"
    ]
    return [flaw["fault"] for flaw in copy["flaws"] if flaw["instance"] == "host-1" and flaw["fault"] != "unclean"]
