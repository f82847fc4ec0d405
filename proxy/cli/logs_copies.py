"""The copies of the log that the configuration names, and what `logs verify` compares them with."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.cli.instance import SOCKET_NAME
from proxy.cli.log_database import configured_database
from proxy.cli.output import Failure
from proxy.records.anchor import Anchor, object_in
from proxy.records.chain_id import read_chain_id
from proxy.records.checkpoint_key import KEY_FILE, read_checkpoint_key
from proxy.records.copies import Line, database_lines, lines_of
from proxy.records.pruned_range import PrunedRange, ranges_in, signer_of
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.sink_positions import Delivered, delivered
from proxy.records.sinks.sink import file_target, postgres_target
from proxy.records.verify import Expected, VerifyResult, verify
from proxy.settings.model import Settings
from proxy.settings.stores import PostgresDatabase, SqliteDatabase

DATABASE = "database"
# Journals written by commands (proxy/records/command_record.py).
_COMMAND = "command-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy of the log; *name* is its name in the report.

    *delivered* is what must be in it; *shared*: other instances write to it, too.
    """

    name: str
    lines: Iterator[Line]
    delivered: Delivered | None = None
    database: bool = False
    shared: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Return whether it is certain that nothing was written to it."""
        return self.delivered is not None and self.delivered.nothing

    def verdict(self, expected: Expected) -> VerifyResult:
        """Return the verdict on it; *expected* is what all copies are compared with."""
        own = replace(expected, delivered=self.delivered, database=self.database, shared=self.shared)
        return verify(self.lines, own)


def expected_of(
    settings: Settings, key: str, *, trusted: Iterable[str] = (), anchors: Iterable[Anchor] = ()
) -> Expected:
    """Return what all copies are compared with; *key* is this data directory's, "" before there is one."""
    directory = Path(settings.data_directory)
    with _failures():
        return Expected(
            trusted=frozenset(filter(None, [key, *trusted])),
            own_chain=read_chain_id(directory),
            anchors=tuple(anchors),
            running=_runs(directory),
            stream=VerifyResult(pruned=_pruned_by_commands(directory)),
        )


def copies_of(settings: Settings, database_file: Path | None) -> list[Copy]:
    """Return every copy that the configuration names, with what its sink has received by now."""
    log, directory = settings.request_log, Path(settings.data_directory)
    copies = []
    if database := configured_database(settings, database_file):
        shared = isinstance(database, PostgresDatabase)
        target = file_target(database.path) if isinstance(database, SqliteDatabase) else postgres_target(database.url)
        must_have = delivered_to(directory, DATABASE, target)
        lines = _database_lines(database)
        copies.append(Copy(name=DATABASE, lines=lines, delivered=must_have, database=True, shared=shared))
    if log.file:
        path = Path(log.file)
        must_have = delivered_to(directory, "file", file_target(path))
        if path.exists() or (must_have is not None and not must_have.nothing):
            copies.append(Copy(name="file", lines=lines_of([path] if path.exists() else []), delivered=must_have))
    if (directory / STREAM).is_dir():
        copies.append(Copy(name=STREAM, lines=lines_of([directory / STREAM])))
    return copies


def _pruned_by_commands(data_directory: Path) -> dict[PrunedRange, frozenset[str]]:
    """Return what commands have pruned whose record is not in the stream yet, and who signed it.

    The keeper takes such a record when it starts.
    """
    pruned: dict[PrunedRange, frozenset[str]] = {}
    journals = data_directory / JOURNALS
    for name, number in segments(journals):
        if name.startswith(_COMMAND):
            with contextlib.suppress(FileNotFoundError):  # taken by now
                record = object_in(segment_path(journals, name, number).read_bytes())
                ranges = tuple(ranges_in(record))
                signer = signer_of(record, ranges)
                pruned |= dict.fromkeys(ranges, frozenset({signer} if signer else ()))
    return pruned


def _database_lines(database: SqliteDatabase | PostgresDatabase) -> Iterator[Line]:
    if isinstance(database, SqliteDatabase):
        return database_lines(database.path)
    # The extra is installed only where PostgreSQL is used.
    from proxy.records.archives.postgres import postgres_lines  # noqa: PLC0415

    return postgres_lines(database.url)


def public_key_of(settings: Settings) -> str:
    """Return the public key of the data directory's checkpoints, "" before there are any."""
    path = Path(settings.data_directory) / KEY_FILE
    with _failures():
        return read_checkpoint_key(path).public if path.exists() else ""


def delivered_to(data_directory: Path, sink: str, target: str) -> Delivered | None:
    """Return what *sink* at *target* has received by the keeper's notes, None if unknown."""
    with _failures():
        return delivered(data_directory, sink, target=target)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Raise an OSError of a file in the data directory as Failure."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


def _runs(data_directory: Path) -> bool:
    """Return whether an instance answers: then its log has no end yet."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(data_directory / SOCKET_NAME))
        except OSError:
            return False
    return True
