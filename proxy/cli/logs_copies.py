"""The copies of the log that the configuration names, and what `logs verify` compares them with."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.cli.instance import SOCKET_NAME
from proxy.cli.log_database import configured_database
from proxy.cli.output import Failure
from proxy.records.anchor import Anchor, object_in
from proxy.records.chain_id import read_chain_id
from proxy.records.checkpoint_key import KEY_FILE, read_checkpoint_key
from proxy.records.copies import Line, database_lines, lines_of
from proxy.records.delivered import Delivered, delivered
from proxy.records.pruned_range import PrunedRange, signer_of, tombstones_in
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.sinks.target import file_target, postgres_target
from proxy.records.verdict import Verdict
from proxy.records.verify import Verifier
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
    shared: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Return whether it is certain that nothing was written to it."""
        return self.delivered is not None and self.delivered.nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What copies are compared with."""

    trusted: frozenset[str]
    own_chain: str
    anchors: Sequence[Anchor]
    running: bool


def verdict_of(copy: Copy, *, known: Known, stream: Verdict, database: bool = False) -> Verdict:
    """Return the verdict on *copy*; *stream* is the verdict on the keeper's stream, or on what commands have left."""
    verifier = Verifier(
        trusted=known.trusted,
        shared=copy.shared,
        own_chain=known.own_chain,
        anchors=known.anchors,
        running=known.running,
        database=database or copy.name == DATABASE,
        stream=stream,
        delivered=copy.delivered,
    )
    for line in copy.lines:
        if line.differs:
            verifier.differs(line.text, line.place, line.differs)
        if not line.text and line.differs:
            continue
        if line.whole:
            verifier.take(line.text, line.place)
        else:
            verifier.cut(line.place)
    return verifier.finish()


def copies_of(settings: Settings, database_file: Path | None) -> list[Copy]:
    """Return every copy that the configuration names, with what its sink has received by now."""
    log, directory = settings.request_log, Path(settings.data_directory)
    copies = []
    if database := configured_database(settings, database_file):
        shared = isinstance(database, PostgresDatabase)
        target = file_target(database.path) if isinstance(database, SqliteDatabase) else postgres_target(database.url)
        must_have = delivered_to(directory, DATABASE, target)
        copies.append(Copy(name=DATABASE, lines=_database_lines(database), delivered=must_have, shared=shared))
    if log.file:
        path = Path(log.file)
        must_have = delivered_to(directory, "file", file_target(path))
        if path.exists() or (must_have is not None and not must_have.nothing):
            copies.append(Copy(name="file", lines=lines_of([path] if path.exists() else []), delivered=must_have))
    if (directory / STREAM).is_dir():
        copies.append(Copy(name=STREAM, lines=lines_of([directory / STREAM])))
    return copies


def left_stones(data_directory: Path) -> dict[PrunedRange, frozenset[str]]:
    """Return what commands have pruned whose record is not in the stream yet, and who signed it.

    The keeper takes such a record when it starts.
    """
    stones: dict[PrunedRange, frozenset[str]] = {}
    journals = data_directory / JOURNALS
    for name, number in segments(journals):
        if name.startswith(_COMMAND):
            with contextlib.suppress(FileNotFoundError):  # taken by now
                record = object_in(segment_path(journals, name, number).read_bytes())
                found = tuple(tombstones_in(record))
                signer = signer_of(record, found)
                stones |= dict.fromkeys(found, frozenset({signer} if signer else ()))
    return stones


def _database_lines(database: SqliteDatabase | PostgresDatabase) -> Iterator[Line]:
    if isinstance(database, SqliteDatabase):
        return database_lines(database.path)
    # The extra is installed only where PostgreSQL is used.
    from proxy.records.archives.postgres_chain import postgres_lines  # noqa: PLC0415

    return postgres_lines(database.url)


def public_key_of(settings: Settings) -> str:
    """Return the public key of the data directory's checkpoints, "" before there are any."""
    path = Path(settings.data_directory) / KEY_FILE
    try:
        return read_checkpoint_key(path).public if path.exists() else ""
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def own_chain_of(settings: Settings) -> str:
    """Return the id of the data directory's chain, "" before there is any."""
    try:
        return read_chain_id(Path(settings.data_directory))
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


def delivered_to(data_directory: Path, sink: str, target: str) -> Delivered | None:
    """Return what *sink* at *target* has received by the keeper's notes, None if unknown."""
    try:
        return delivered(data_directory, sink, target=target)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


def runs(settings: Settings) -> bool:
    """Return whether an instance answers: then its log has no end yet."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(Path(settings.data_directory) / SOCKET_NAME))
        except OSError:
            return False
    return True
