"""`payproxy logs verify` and `prove`: whether the log is what the proxy wrote, and whether a body is the one it saw."""

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.instance import SOCKET_NAME
from proxy.cli.logs_archive import configured_database, database_option, id_bytes, opened
from proxy.cli.options import config_option, given_socket
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, paint, printable
from proxy.records.anchor import Anchor, anchors_in, object_in
from proxy.records.archives.spool import Spool
from proxy.records.body_hmac import body_digest, read_body_key
from proxy.records.checkpoint_key import KEY_FILE, read_checkpoint_key
from proxy.records.copies import CopyUnreadable, Line, database_lines, lines_of, record_in
from proxy.records.flaw import Flaw, Severity
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.tombstone import Tombstone, tombstones_in
from proxy.records.verify import Verdict, Verifier
from proxy.settings.database import PostgresDatabase, SqliteDatabase
from proxy.settings.sections import Settings

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
_MOST_PRINTED = 50
# Journals that commands leave (proxy/records/left_record.py).
_COMMAND = "command-"
_DATABASE = "database"
_NOTHING = Verdict()
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """One copy of the log, by the *name* that the report has for it."""

    name: str
    lines: Iterator[Line]


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Checkpoints kept elsewhere, as lines of JSON; a log kept elsewhere will do.",
)
@database_option
@config_option
@json_option
def verify(
    files: Sequence[Path],
    anchor_files: Sequence[Path],
    database_file: Path | None,
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check the log's chain and checkpoints; name the first record that was changed, is missing or out of order.

    FILES are files of JSON lines, SQLite files or the stream's directory, together one log; default: each copy that
    the configuration knows of. Ends with 1 if the log is not what the proxy wrote; without a clean stop at its end, or
    with records that came twice, there is a warning.
    """
    configuration = load_configuration(config_path) if config_path or given_socket() or not files else None
    key = _public_key(configuration.settings) if configuration else ""
    try:
        anchors, flaws = anchors_in(_texts(anchor_files))
        if files or configuration is None:
            copies, running, stream = [_Copy(name="", lines=lines_of(files))], False, _NOTHING
        else:
            copies = _copies(configuration.settings, database_file)
            running = _runs(configuration.settings)
            stream = Verdict(tombstones=tuple(_left(Path(configuration.settings.data_directory))))
        verdicts: list[tuple[str, Verdict]] = []
        # The stream first: what it has, the others get.
        for copy in reversed(copies):
            found = _verdict(copy, public_key=key, anchors=anchors, running=running, stream=stream)
            stream = found if copy.name == STREAM else stream
            verdicts.insert(0, (copy.name, found))
        if any(verdict.instances for _, verdict in verdicts):
            # A sink that is new has nothing yet, which no anchor can know.
            verdicts = [(name, verdict if verdict.instances else _NOTHING) for name, verdict in verdicts]
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    if not verdicts:
        raise Failure("the configuration knows of no copy of the log; name FILES")
    sound = not flaws and all(verdict.holds for _, verdict in verdicts)
    emit(
        {
            "holds": sound,
            "public_key": key,
            "anchors": len(anchors),
            "anchor_flaws": [flaw.as_dict() for flaw in flaws],
            "copies": [_as_dict(name, verdict) for name, verdict in verdicts],
        },
        as_json=as_json,
        human="\n\n".join(
            [*(["\n".join(map(_in_colour, flaws))] if flaws else []), *(_told(*pair, key=key) for pair in verdicts)]
        ),
    )
    if not sound:
        raise click.exceptions.Exit(ExitCode.FAILED)


@click.command()
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@database_option
@config_option
@json_option
def prove(id_: str, file: Path, database_file: Path | None, config_path: Path | None, *, as_json: bool) -> None:
    """Tell whether FILE is the body of request ID, by the record's body_hmac. Ends with 1 if it is not."""
    configuration = load_configuration(config_path)
    log = configuration.settings.request_log
    if not log.body_hmac_key_file:
        raise Failure("records carry no body_hmac: request_log.body_hmac_key_file is not set")
    try:
        digest = body_digest(read_body_key(Path(log.body_hmac_key_file)))()
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
        record = asyncio.run(_record(configuration.settings, database_file, id_))
    except OSError as error:
        raise Failure(f"{error.filename or file}: {error.strerror or error}") from None
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    recorded = str(record.get("body_hmac", ""))
    same = hmac.compare_digest(recorded, digest.hexdigest())
    if not recorded:
        what = "the record has no body_hmac: the request had no body, it did not arrive whole, or no key was set then"
    elif same:
        what = "this is the body of the request"
    else:
        what = "this is NOT the body of the request, or the key is another one now"
    rows = [(name, str(record.get(name, ""))) for name in ("id", "time", "caller", "method", "path", "request_bytes")]
    value = {"same": same, "recorded": recorded, "computed": digest.hexdigest(), "time": record.get("time", "")}
    emit(value, as_json=as_json, human=f"{what}\n{facts(rows)}")
    if not same:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _verdict(copy: _Copy, *, public_key: str, anchors: Iterable[Anchor], running: bool, stream: Verdict) -> Verdict:
    verifier = Verifier(
        public_key=public_key, anchors=anchors, running=running, database=copy.name == _DATABASE, stream=stream
    )
    for line in copy.lines:
        if line.whole:
            verifier.take(line.text, line.place)
        else:
            verifier.cut(line.place)
    return verifier.finish()


def _copies(settings: Settings, database_file: Path | None) -> list[_Copy]:
    """Return every copy that the configuration knows of: they differ in what each sink has got by now."""
    log, directory = settings.request_log, Path(settings.data_directory)
    copies = []
    if database := configured_database(settings, database_file):
        copies.append(_Copy(name=_DATABASE, lines=_database_lines(database)))
    if log.file and Path(log.file).exists():
        copies.append(_Copy(name="file", lines=lines_of([Path(log.file)])))
    if (directory / STREAM).is_dir():
        copies.append(_Copy(name=STREAM, lines=lines_of([directory / STREAM])))
    return copies


def _left(data_directory: Path) -> Iterator[Tombstone]:
    """Yield what commands have pruned of which the record is in no stream yet: the keeper takes it when it starts."""
    journals = data_directory / JOURNALS
    for name, number in segments(journals):
        if name.startswith(_COMMAND):
            with contextlib.suppress(FileNotFoundError):  # taken by now
                yield from tombstones_in(object_in(segment_path(journals, name, number).read_bytes()))


async def _record(settings: Settings, database_file: Path | None, id_: str) -> dict[str, Any]:
    """Return the record with that id, from wherever it is by now."""
    database, record_id = configured_database(settings, database_file), id_bytes(id_)
    text = None
    if database is not None:
        async with opened(database) as archive:
            text = await archive.by_id(record_id)
    if text is None:
        text = await Spool(Path(settings.data_directory)).by_id(record_id)
    log = settings.request_log.file
    if text is None and log and await asyncio.to_thread(Path(log).exists):
        text = await asyncio.to_thread(lambda: record_in(lines_of([Path(log)]), record_id))
    if text is None:
        raise Failure(f"there is no record {id_}")
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def _database_lines(database: SqliteDatabase | PostgresDatabase) -> Iterator[Line]:
    if isinstance(database, SqliteDatabase):
        return database_lines(database.path)
    # Only whoever has a PostgreSQL has the extra installed.
    from proxy.records.archives.postgres_chain import postgres_lines  # noqa: PLC0415

    return postgres_lines(database.url)


def _public_key(settings: Settings) -> str:
    path = Path(settings.data_directory) / KEY_FILE
    try:
        return read_checkpoint_key(path).public
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _runs(settings: Settings) -> bool:
    """Return whether an instance answers: its log has no end yet."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(Path(settings.data_directory) / SOCKET_NAME))
        except OSError:
            return False
    return True


def _texts(paths: Iterable[Path]) -> Iterator[tuple[bytes, str]]:
    return ((line.text, line.place) for path in paths for line in lines_of([path]))


def _told(name: str, verdict: Verdict, *, key: str) -> str:
    blocks = [paint(f"{name}:", "cyan")] if name else []
    blocks += [_in_colour(flaw) for flaw in verdict.flaws[:_MOST_PRINTED]]
    if len(verdict.flaws) > _MOST_PRINTED:
        blocks.append(f"and {len(verdict.flaws) - _MOST_PRINTED} more")
    for _, known in sorted(verdict.instances.items()):
        check = known.check
        signed = sum(known.keys.values())
        rows = [
            ("instance", ", then ".join(known.names)),
            ("records", f"{check.records}, {check.first} to {check.last}"),
            ("signed", f"{signed} checkpoints, up to record {known.vouched}" if signed else "no checkpoints"),
            *(
                ("public key", public if public != key else f"{public} (this data directory's)")
                for public in known.keys
            ),
        ]
        blocks.append(facts(rows))
    if not verdict.instances:
        blocks.append("no records")
    blocks.append("the chain holds" if verdict.holds else paint("the log is not what the proxy wrote", "red"))
    return "\n".join(blocks)


def _as_dict(name: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "copy": name,
        "holds": verdict.holds,
        "flaws": [flaw.as_dict() for flaw in verdict.flaws],
        "instances": {
            instance: {
                "names": list(known.names),
                "records": known.check.records,
                "first": known.check.first,
                "last": known.check.last,
                "repeated": known.check.repeated,
                "checkpoints": sum(known.keys.values()),
                "signed_up_to": known.vouched,
                "public_keys": list(known.keys),
                "stopped": known.stopped,
            }
            for instance, known in verdict.instances.items()
        },
    }


def _in_colour(flaw: Flaw) -> str:
    word = flaw.severity.value
    return printable(str(flaw)).replace(f": {word}: ", f": {paint(word, _COLOURS[flaw.severity])}: ", 1)
