import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from proxy.cli.logs_backup import backup
from proxy.cli.logs_verify import verify
from proxy.records.sinks.sqlite import SqliteSink
from tests.records.chains import Writer, whole
from tests.records.test_copies import stored
from tests.settings.support import PLAIN


def installed(folder: Path) -> Path:
    """Return a data directory, with a configuration beside it."""
    (folder / "payproxy.toml").write_text(PLAIN)
    (folder / "secret").write_text("s")
    (folder / "secret").chmod(0o600)
    data = folder / "payproxy-data"
    data.mkdir(mode=0o700)
    return data


def backed_up(folder: Path, *arguments: str) -> Result:
    """Run the command, its copy going to copies/requests.db."""
    file = str(folder / "copies" / "requests.db")
    return CliRunner().invoke(backup, [file, "--config", str(folder / "payproxy.toml"), *arguments])


def test_the_copy_is_whole_while_the_proxy_writes(tmp_path: Path) -> None:
    """The records are in the WAL: the month's file alone has none of them. The copy is one file, 0600, and verified."""
    data = installed(tmp_path)
    lines = whole(data)

    async def run() -> None:
        sink = SqliteSink(data / "requests.db")
        await sink.write(lines)
        [path, _] = await asyncio.to_thread(lambda: list(data.glob("requests-*.db")))
        await asyncio.to_thread(shutil.copy, path, tmp_path / "alone.db")
        first = await asyncio.to_thread(backed_up, tmp_path)
        again = await asyncio.to_thread(backed_up, tmp_path, "--json")
        await sink.close()
        assert first.exit_code == 0, first.output
        assert "the chain holds" in first.stdout
        value = json.loads(again.stdout)
        assert (again.exit_code, value["holds"]) == (0, True)
        assert sum(month["records"] for month in value["files"]) == 19

    asyncio.run(run())
    with closing(sqlite3.connect(tmp_path / "alone.db")) as alone:
        assert alone.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    records = 0
    for copy in (tmp_path / "copies").iterdir():
        assert copy.stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            records += connection.execute("SELECT count(*) FROM records").fetchone()[0]
    assert records == 19


def test_the_copy_is_verified_by_its_name_and_can_be_put_back(tmp_path: Path) -> None:
    """Months are found by what their names have in common; put back in place, the sink goes on."""
    data = installed(tmp_path)
    writer = Writer(data).start().exchanges(3)
    asyncio.run(stored(data / "requests.db", writer.lines))
    assert backed_up(tmp_path).exit_code == 0

    assert CliRunner().invoke(verify, [str(tmp_path / "copies" / "requests.db")]).exit_code == 0
    assert CliRunner().invoke(verify, [str(tmp_path / "copies" / "others.db")]).exit_code == 2

    for path in data.glob("requests-*"):
        path.unlink()
    for path in (tmp_path / "copies").iterdir():
        shutil.copy(path, data / path.name)
    before = len(writer.lines)
    asyncio.run(stored(data / "requests.db", writer.exchanges(2).stop().lines[before:]))
    done = CliRunner().invoke(verify, ["--config", str(tmp_path / "payproxy.toml")])
    assert done.exit_code == 0, done.output
    assert "8, 1 to 8" in done.stdout


def test_a_copy_of_a_log_that_does_not_hold_is_said(tmp_path: Path) -> None:
    """The copy is made, and ends with 1."""
    data = installed(tmp_path)
    lines = whole(data)
    asyncio.run(stored(data / "requests.db", lines[:5] + lines[6:]))

    done = backed_up(tmp_path)

    assert done.exit_code == 1
    assert "record 6 is missing" in done.stdout
    assert list((tmp_path / "copies").glob("*.db"))


def test_a_postgresql_and_the_database_itself_are_refused(tmp_path: Path) -> None:
    """With what to do instead; an empty database gives no copy that holds."""
    data = installed(tmp_path)
    itself = CliRunner().invoke(backup, [str(data / "requests.db"), "--config", str(tmp_path / "payproxy.toml")])
    empty = backed_up(tmp_path)
    with (tmp_path / "payproxy.toml").open("a") as file:
        file.write('\n[request_log]\ndatabase = "postgresql://u@127.0.0.1:1/x"\n')
    postgres = backed_up(tmp_path)

    assert [itself.exit_code, empty.exit_code, postgres.exit_code] == [1, 1, 1]
    assert "is the database itself" in str(itself.exception) + itself.output
    assert "no months yet" in empty.output
    assert "pg_dump" in str(postgres.exception) + postgres.output


def test_the_name_of_a_month_names_all_months(tmp_path: Path) -> None:
    """FILE may be one that the command itself makes: no month is doubled, and the database's own months are refused."""
    data = installed(tmp_path)
    asyncio.run(stored(data / "requests.db", whole(data)))
    config = ["--config", str(tmp_path / "payproxy.toml")]
    [month, *_] = sorted(path.name for path in data.glob("requests-*.db"))

    done = CliRunner().invoke(backup, [str(tmp_path / "copies" / month), *config])
    itself = CliRunner().invoke(backup, [str(data / month), *config])

    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {path.name for path in data.glob("requests-*.db")}
    assert itself.exit_code == 1
    assert "is the database itself" in str(itself.exception) + itself.output
