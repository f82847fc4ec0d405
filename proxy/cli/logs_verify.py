"""`payproxy logs verify` and `prove`: whether the log is what the proxy wrote, and whether a body is the one it saw."""

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.instance import SOCKET_NAME
from proxy.cli.logs_archive import configured_database, database_option, id_bytes, opened
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, paint, printable
from proxy.records.anchor import Anchor, anchors_in, object_in
from proxy.records.archives.spool import Spool
from proxy.records.body_hmac import body_digest, read_body_key
from proxy.records.chain_id import read_chain_id
from proxy.records.checkpoint_key import KEY_FILE, fingerprint, read_checkpoint_key, read_public_key
from proxy.records.copies import CopyUnreadable, Line, database_lines, lines_of, record_in
from proxy.records.delivered import Delivered, delivered
from proxy.records.flaw import Flaw, Severity
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.sinks.target import file_target, postgres_target
from proxy.records.tombstone import Tombstone, signer_of, tombstones_in
from proxy.records.verdict import Instance, Outcome, Verdict
from proxy.records.verify import Verifier
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
    """One copy of the log, by the *name* that the report has for it.

    *delivered* is what must be in it, *shared*: other instances write to it, too.
    """

    name: str
    lines: Iterator[Line]
    delivered: Delivered | None = None
    shared: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Return whether it is known that nothing was written to it."""
        return self.delivered is not None and self.delivered.nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What copies are held against."""

    trusted: frozenset[str]
    own_chain: str
    anchors: Sequence[Anchor]
    running: bool


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Checkpoints kept elsewhere, as lines of JSON; a log kept elsewhere will do.",
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key that checkpoints may be signed with, beside this data directory's: PEM, or as this prints it.",
)
@database_option
@config_option
@json_option
def verify(
    files: Sequence[Path],
    anchor_files: Sequence[Path],
    key_files: Sequence[Path],
    database_file: Path | None,
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check the log's chain and checkpoints; name the first record that was changed, is missing or out of order.

    FILES are files of JSON lines, SQLite files or the stream's directory, together one log; default: each copy that
    the configuration knows of. Ends with 1 if the log is not what the proxy wrote, or if there is none; without a clean
    stop at its end, or with records that came twice, there is a warning.
    """
    configuration = load_configuration(config_path) if config_path or not files else None
    key = _public_key(configuration.settings) if configuration else ""
    trusted = frozenset(filter(None, [key, *map(_key_in, key_files)]))
    own_chain = ""
    try:
        anchors, flaws = anchors_in(_texts(anchor_files))
        running, stream = False, _NOTHING
        if files or configuration is None:
            copies = [_Copy(name="", lines=lines_of(files))]
        else:
            own_chain = _own_chain(configuration.settings)
            copies = _copies(configuration.settings, database_file)
            running = _runs(configuration.settings)
            stream = Verdict(stones=_left(Path(configuration.settings.data_directory)))
        known = _Known(trusted=trusted, own_chain=own_chain, anchors=anchors, running=running)
        verdicts: list[tuple[str, Verdict]] = []
        # The stream first: what it has, the others get.
        for copy in reversed(copies):
            found = _verdict(copy, known=known, stream=stream)
            stream = found if copy.name == STREAM else stream
            if not found.instances and (copy.may_be_empty or copy.name != _DATABASE):
                # A sink that is new has nothing yet, and a file may just have been rotated, which no anchor can know.
                found = Verdict(flaws=tuple(flaw for flaw in found.flaws if flaw.severity is Severity.WARNING))
            verdicts.insert(0, (copy.name, found))
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    if not verdicts:
        raise Failure("the configuration knows of no copy of the log; name FILES")
    outcomes = {verdict.outcome for _, verdict in verdicts}
    sound = not flaws and Outcome.BROKEN not in outcomes and Outcome.HOLDS in outcomes
    emit(
        {
            "holds": sound,
            "public_key": key,
            "fingerprint": fingerprint(key) if key else "",
            "trusted_keys": sorted(trusted),
            "anchors": len(anchors),
            "anchor_flaws": [flaw.as_dict() for flaw in flaws],
            "copies": [_as_dict(name, verdict) for name, verdict in verdicts],
        },
        as_json=as_json,
        human="\n\n".join(
            [
                *(["\n".join(map(_in_colour, flaws))] if flaws else []),
                *(_told(*pair, key=key, trusted=trusted) for pair in verdicts),
            ]
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


def _verdict(copy: _Copy, *, known: _Known, stream: Verdict) -> Verdict:
    verifier = Verifier(
        trusted=known.trusted,
        shared=copy.shared,
        own_chain=known.own_chain,
        anchors=known.anchors,
        running=known.running,
        database=copy.name == _DATABASE,
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


def _copies(settings: Settings, database_file: Path | None) -> list[_Copy]:
    """Return every copy that the configuration knows of: they differ in what each sink has got by now."""
    log, directory = settings.request_log, Path(settings.data_directory)
    copies = []
    if database := configured_database(settings, database_file):
        shared = isinstance(database, PostgresDatabase)
        target = file_target(database.path) if isinstance(database, SqliteDatabase) else postgres_target(database.url)
        must_have = _delivered(directory, _DATABASE, target)
        copies.append(_Copy(name=_DATABASE, lines=_database_lines(database), delivered=must_have, shared=shared))
    if log.file:
        path = Path(log.file)
        must_have = _delivered(directory, "file", file_target(path))
        if path.exists() or (must_have is not None and not must_have.nothing):
            copies.append(_Copy(name="file", lines=lines_of([path] if path.exists() else []), delivered=must_have))
    if (directory / STREAM).is_dir():
        copies.append(_Copy(name=STREAM, lines=lines_of([directory / STREAM])))
    return copies


def _left(data_directory: Path) -> dict[Tombstone, frozenset[str]]:
    """Return what commands have pruned of which the record is in no stream yet, and who signed it.

    The keeper takes it when it starts.
    """
    stones: dict[Tombstone, frozenset[str]] = {}
    journals = data_directory / JOURNALS
    for name, number in segments(journals):
        if name.startswith(_COMMAND):
            with contextlib.suppress(FileNotFoundError):  # taken by now
                record = object_in(segment_path(journals, name, number).read_bytes())
                found = tuple(tombstones_in(record))
                signer = signer_of(record, found)
                stones |= dict.fromkeys(found, frozenset({signer} if signer else ()))
    return stones


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
    value = object_in(text)
    if str(value.get("id", "")).replace("-", "") != record_id.hex():
        raise Failure(f"what stands under that id is another record, {value.get('id')}; run `payproxy logs verify`")
    return value


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


def _key_in(path: Path) -> str:
    try:
        return read_public_key(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _own_chain(settings: Settings) -> str:
    try:
        return read_chain_id(Path(settings.data_directory))
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


def _delivered(data_directory: Path, sink: str, target: str) -> Delivered | None:
    try:
        return delivered(data_directory, sink, target=target)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


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


def _told(name: str, verdict: Verdict, *, key: str, trusted: Collection[str]) -> str:
    blocks = [paint(f"{name}:", "cyan")] if name else []
    blocks += [_in_colour(flaw) for flaw in verdict.flaws[:_MOST_PRINTED]]
    if len(verdict.flaws) > _MOST_PRINTED:
        blocks.append(f"and {len(verdict.flaws) - _MOST_PRINTED} more")
    for _, known in sorted(verdict.instances.items()):
        check = known.check
        signed = sum(one.checkpoints for one in known.keys.values())
        rows = [
            ("instance", ", then ".join(known.names)),
            ("records", f"{check.records}, {check.first} to {check.last}"),
            ("signed", f"{signed} checkpoints, up to record {known.vouched}" if signed else "no checkpoints"),
            *(("public key", f"{public}, {_whose(public, key=key, trusted=trusted)}") for public in known.keys),
        ]
        blocks.append(facts(rows))
    match verdict.outcome:
        case Outcome.BROKEN:
            blocks.append(paint("the log is not what the proxy wrote", "red"))
        case Outcome.EMPTY:
            blocks.append("no records: nothing was checked")
        case Outcome.HOLDS:
            blocks.append("the chain holds")
            blocks += [f"{one.name} is {_by_whom(one)}" for one in verdict.instances.values() if not one.trusted]
    return "\n".join(blocks)


def _whose(public: str, *, key: str, trusted: Collection[str]) -> str:
    """Return the name of the key *public*, and why it is trusted, if it is."""
    name = fingerprint(public)
    if public == key:
        return f"{name} (this data directory's)"
    return f"{name} (named by --key)" if public in trusted else name


def _by_whom(known: Instance) -> str:
    if not known.keys:
        return "not signed yet"
    return f"verified by its own key, fingerprint {', '.join(map(fingerprint, known.keys))}"


def _as_dict(name: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "copy": name,
        "holds": verdict.holds,
        "outcome": verdict.outcome.value,
        "flaws": [flaw.as_dict() for flaw in verdict.flaws],
        "instances": {
            instance: {
                "names": list(known.names),
                "chain": next(iter(known.ids), ""),
                "records": known.check.records,
                "first": known.check.first,
                "last": known.check.last,
                "repeated": known.check.repeated,
                "checkpoints": sum(one.checkpoints for one in known.keys.values()),
                "signed_up_to": known.vouched,
                "public_keys": list(known.keys),
                "fingerprints": [fingerprint(public) for public in known.keys],
                "trusted": known.trusted,
                "stopped": known.stopped,
            }
            for instance, known in verdict.instances.items()
        },
    }


def _in_colour(flaw: Flaw) -> str:
    word = flaw.severity.value
    return printable(str(flaw)).replace(f": {word}: ", f": {paint(word, _COLOURS[flaw.severity])}: ", 1)
