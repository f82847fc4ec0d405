import json
import signal
from pathlib import Path

from proxy.records.segment import STREAM
from proxy.records.stream import Progress, Stream
from tests.cli.logs import DATA, add, make_log, running
from tests.cli.support import run
from tests.records.kept import kept, record
from tests.records.support import NOW


def test_the_newest_come_the_oldest_first(tmp_path: Path) -> None:
    """As many as asked for, and only those that fit."""
    lines = make_log(tmp_path, [record(NOW + number, caller="erp" if number % 2 else "crm") for number in range(30)])

    def tail(*arguments: str) -> list[bytes]:
        return run("logs", "tail", "--json", *arguments, cwd=tmp_path).stdout.encode().splitlines()

    assert tail() == lines[-10:]
    assert tail("-n", "3") == lines[-3:]
    assert tail("-n", "0") == []
    assert tail("-n", "2", "--caller", "erp") == [lines[27], lines[29]]


def test_it_follows_the_database(tmp_path: Path) -> None:
    """Records come as they are written, and Ctrl-C ends it."""
    lines = make_log(tmp_path, [record(NOW)])
    with running("logs", "tail", "-f", "--json", "--caller", "erp", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().encode().strip() == lines[0]
        more = kept([record(NOW), record(NOW - 5, caller="crm"), record(NOW - 9)])[1:]
        add(tmp_path, more)
        assert process.stdout.readline().encode().strip() == more[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_it_follows_beyond_what_is_no_record(tmp_path: Path) -> None:
    """Half a line is kept like all else, and shown to nobody."""
    lines = make_log(tmp_path, [record(NOW), record(NOW + 1)])
    with running("logs", "tail", "-f", "-n", "1", "--json", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().encode().strip() == lines[1]
        (after,) = kept([record(NOW + 2)])
        add(tmp_path, [b'{"kind":"exch', b"[]", after])
        assert process.stdout.readline().encode().strip() == after


def test_without_a_database_filters_look_beyond_the_newest(tmp_path: Path) -> None:
    """Those that fit are counted, not those that were looked at."""
    make_log(tmp_path, [], settings='database = ""')
    stream = Stream(tmp_path / DATA / STREAM)
    stream.open()
    stream.append([record(caller="crm", path=f"/{at}") for at in range(3)] + [record()] * 20, Progress())
    stream.close()
    done = run("logs", "tail", "--json", "-n", "2", "--caller", "crm", cwd=tmp_path)

    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["/1", "/2"]


def test_without_a_database_it_follows_the_stream(tmp_path: Path) -> None:
    """Which the proxy keeps in any case."""
    make_log(tmp_path, [], settings='database = ""')
    stream = Stream(tmp_path / DATA / STREAM)
    stream.open()
    stream.append([record(path="/1")], Progress())
    with running("logs", "tail", "-f", "--json", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["path"] == "/1"
        stream.append([record(path="/2")], Progress())
        assert json.loads(process.stdout.readline())["path"] == "/2"
    stream.close()


def test_a_table_has_one_head(tmp_path: Path) -> None:
    """Also when more comes later."""
    make_log(tmp_path, [record(NOW + number) for number in range(3)])
    rows = run("logs", "tail", cwd=tmp_path).stdout.splitlines()

    assert len(rows) == 4
    assert rows[0].startswith("time")
