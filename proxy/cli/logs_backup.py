"""`payproxy logs backup`: copy the months of the embedded database, and verify the copy."""

import sqlite3
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database
from proxy.cli.logs_copies import DATABASE, Copy, delivered_to, expected_of, public_key_of
from proxy.cli.logs_verify import as_dict, report
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, json_option
from proxy.cli.progress import Progress, progress
from proxy.records.backup import back_up
from proxy.records.copies import CopyUnreadable, database_lines
from proxy.records.sinks.sink import file_target
from proxy.records.sinks.sqlite_file import month_file, month_files, named_month
from proxy.records.verify import Outcome
from proxy.settings.stores import SqliteDatabase


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@json_option
def backup(file: Path, config_path: Path | None, *, as_json: bool) -> None:
    """Copy the embedded database, the proxy running or not, to FILE: the months are files beside that name.

    `payproxy logs backup /backup/requests.db` writes /backup/requests-2026-11.db and so on; each file is complete, and
    replaces an older copy. The copy is then verified, as `logs verify /backup/requests.db` does at any time; ends with
    1 if that finds errors. Keep checkpoint.key, chain.id and masking.key of the data directory with it. To restore,
    stop the proxy and put the months back in their places, without -wal and -shm files beside them.
    """
    settings = load_configuration(config_path).settings
    database = configured_database(settings, None)
    if not isinstance(database, SqliteDatabase):
        what = "is turned off" if database is None else "is a PostgreSQL: pg_dump copies it"
        raise Failure(f"request_log.database {what}; there is nothing to copy here")
    if month := named_month(file):
        # One of the files that this command makes: take it for all of them.
        file = file.with_name(f"{file.stem.removesuffix(f'-{month}')}{file.suffix}")
    if file.absolute().parent == database.path.absolute().parent and file.name == database.path.name:
        raise Failure(f"{file} is the database itself: name a place elsewhere, on another disk")
    # Before the copy: everything that the sink has confirmed by now must be in it.
    must_have = delivered_to(Path(settings.data_directory), DATABASE, file_target(database.path))
    with progress("copying") as shown:
        copied = _copied(database.path, file, shown)
    key = public_key_of(settings)
    try:
        with progress("verifying the copy") as shown:
            lines = shown.counted(database_lines(file))
            copy = Copy(name="", lines=lines, delivered=must_have, database=True)
            found = copy.verdict(expected_of(settings, key))
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    files = [f"{path}  {records} records" for path, records in copied.items()] or ["the database has no months yet"]
    emit(
        {"files": [{"file": str(path), "records": n} for path, n in copied.items()], **as_dict(str(file), found)},
        as_json=as_json,
        human="\n".join([*files, report("", found, key=key, trusted={key})]),
    )
    if found.outcome is not Outcome.HOLDS:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _copied(database: Path, file: Path, shown: Progress) -> dict[Path, int]:
    """Copy each month; return the number of records of each copy."""
    copied = {}
    target = file
    try:
        file.absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for month, path in month_files(database):
            target, shown.what = month_file(file, month), f"copying {month}"
            copied[target] = back_up(path, target)
    except sqlite3.Error as error:
        raise Failure(f"{target}: {error}") from None
    except OSError as error:
        raise Failure(f"{error.filename or target}: {error.strerror}") from None
    return copied
