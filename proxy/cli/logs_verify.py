"""`payproxy logs verify`: check that the log is what the proxy wrote."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import database_option
from proxy.cli.logs_copies import (
    DATABASE,
    Copy,
    Known,
    copies_of,
    left_stones,
    own_chain_of,
    public_key_of,
    runs,
    verdict_of,
)
from proxy.cli.options import config_option, given_socket
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, paint, printable
from proxy.records.anchor import anchors_in
from proxy.records.checkpoint_key import fingerprint, read_public_key
from proxy.records.copies import CopyUnreadable, is_family, lines_of
from proxy.records.log_finding import Flaw, Severity
from proxy.records.segment import STREAM
from proxy.records.verdict import Instance, Outcome, Verdict

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
_MOST_PRINTED = 50
_NOTHING = Verdict()


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
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
    help="Public key that checkpoints may be signed with, besides this data directory's: PEM, or as this prints it.",
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

    FILES are files of JSON lines, SQLite files, the base name of month files (requests.db), or the stream's directory,
    all parts of one log; default: each copy that the configuration names. Ends with 1 if the log is not what the proxy
    wrote, or if there is none; warns if there is no clean stop at its end, or if records came twice.
    """
    for path in files:
        if not path.exists() and not is_family(path):
            raise click.BadParameter(f"{path} does not exist, nor months of it", param_hint="FILES")
    configuration = load_configuration(config_path) if config_path or given_socket() or not files else None
    key = public_key_of(configuration.settings) if configuration else ""
    trusted = frozenset(filter(None, [key, *map(_key_in, key_files)]))
    own_chain = ""
    try:
        anchors, flaws = anchors_in(_texts(anchor_files))
        running, stream = False, _NOTHING
        if files or configuration is None:
            copies = [Copy(name="", lines=lines_of(files))]
        else:
            own_chain = own_chain_of(configuration.settings)
            copies = copies_of(configuration.settings, database_file)
            running = runs(configuration.settings)
            stream = Verdict(stones=left_stones(Path(configuration.settings.data_directory)))
        known = Known(trusted=trusted, own_chain=own_chain, anchors=anchors, running=running)
        verdicts: list[tuple[str, Verdict]] = []
        # The stream first: its records go to the others.
        for copy in reversed(copies):
            found = verdict_of(copy, known=known, stream=stream)
            stream = found if copy.name == STREAM else stream
            if not found.instances and (copy.may_be_empty or copy.name != DATABASE):
                # A new sink has nothing yet, and a file may just have been rotated, which no anchor can know.
                found = Verdict(flaws=tuple(flaw for flaw in found.flaws if flaw.severity is Severity.WARNING))
            verdicts.insert(0, (copy.name, found))
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    if not verdicts:
        raise Failure("the configuration knows of no copy of the log; name FILES")
    outcomes = {verdict.outcome for _, verdict in verdicts}
    # An empty database without explanation may have been emptied.
    unexplained = any(
        copy.name == DATABASE and not copy.may_be_empty and verdict.outcome is Outcome.EMPTY
        for copy, (_, verdict) in zip(copies, verdicts, strict=True)
    )
    sound = not (flaws or unexplained) and Outcome.BROKEN not in outcomes and Outcome.HOLDS in outcomes
    emit(
        {
            "holds": sound,
            "public_key": key,
            "fingerprint": fingerprint(key) if key else "",
            "trusted_keys": sorted(trusted),
            "anchors": len(anchors),
            "anchor_flaws": [flaw.as_dict() for flaw in flaws],
            "copies": [as_dict(name, verdict) for name, verdict in verdicts],
        },
        as_json=as_json,
        human="\n\n".join(
            [
                *(["\n".join(map(_in_colour, flaws))] if flaws else []),
                *(told(*pair, key=key, trusted=trusted) for pair in verdicts),
            ]
        ),
    )
    if not sound:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _key_in(path: Path) -> str:
    try:
        return read_public_key(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _texts(paths: Iterable[Path]) -> Iterator[tuple[bytes, str]]:
    return ((line.text, line.place) for path in paths for line in lines_of([path]))


def told(name: str, verdict: Verdict, *, key: str, trusted: Collection[str]) -> str:
    """Return *verdict* on the copy *name* as text; *key* is this data directory's."""
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
    """Return the fingerprint of the key *public*, and why it is trusted, if it is."""
    name = fingerprint(public)
    if public == key:
        return f"{name} (this data directory's)"
    return f"{name} (named by --key)" if public in trusted else name


def _by_whom(known: Instance) -> str:
    if not known.keys:
        return "not signed yet"
    return f"verified by its own key, fingerprint {', '.join(map(fingerprint, known.keys))}"


def as_dict(name: str, verdict: Verdict) -> dict[str, Any]:
    """Return *verdict* on the copy *name* as JSON values."""
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
