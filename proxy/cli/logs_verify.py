"""`payproxy logs verify`: check that the log is what the proxy wrote."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import database_option
from proxy.cli.logs_copies import DATABASE, Copy, copies_of, expected_of, public_key_of
from proxy.cli.options import config_option, given_socket
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, paint, printable
from proxy.cli.progress import progress
from proxy.records.anchor import anchors_in
from proxy.records.chain_check import ChainCheck
from proxy.records.checkpoint_key import fingerprint, read_public_key
from proxy.records.copies import CopyUnreadable, is_family, lines_of
from proxy.records.log_finding import LogFinding, Severity
from proxy.records.segment import STREAM
from proxy.records.verify import Expected, Outcome, VerifyResult

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
_MOST_PRINTED = 50


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
    trusted = list(map(_key_in, key_files))
    try:
        anchors, anchor_findings = anchors_in(_texts(anchor_files))
        if files or configuration is None:
            copies = [Copy(name="", lines=lines_of(files))]
            expected = Expected(trusted=frozenset(filter(None, [key, *trusted])), anchors=anchors)
        else:
            copies = copies_of(configuration.settings, database_file)
            expected = expected_of(configuration.settings, key, trusted=trusted, anchors=anchors)
        with progress("verifying") as shown:
            verdicts = _verdicts([replace(copy, lines=shown.counted(copy.lines)) for copy in copies], expected)
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    if not verdicts:
        raise Failure("the configuration knows of no copy of the log; name FILES")
    outcomes = {verdict.outcome for verdict in verdicts.values()}
    # An empty database without explanation may have been emptied.
    unexplained = any(
        copy.database and not copy.may_be_empty and verdicts[copy.name].outcome is Outcome.EMPTY for copy in copies
    )
    sound = not (anchor_findings or unexplained) and Outcome.BROKEN not in outcomes and Outcome.HOLDS in outcomes
    emit(
        {
            "holds": sound,
            "public_key": key,
            "fingerprint": fingerprint(key) if key else "",
            "trusted_keys": sorted(expected.trusted),
            "anchors": len(anchors),
            "anchor_flaws": [finding.as_dict() for finding in anchor_findings],
            "copies": [as_dict(name, verdict) for name, verdict in verdicts.items()],
        },
        as_json=as_json,
        human="\n\n".join(
            [
                *(["\n".join(map(_in_colour, anchor_findings))] if anchor_findings else []),
                *(report(name, verdict, key=key, trusted=expected.trusted) for name, verdict in verdicts.items()),
            ]
        ),
    )
    if not sound:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _verdicts(copies: Sequence[Copy], expected: Expected) -> dict[str, VerifyResult]:
    """Return the verdict on each copy, by name; the stream is verified first: its records go to the others."""
    verdicts: dict[str, VerifyResult] = {}
    for copy in reversed(copies):
        found = verdicts[copy.name] = copy.verdict(expected)
        if copy.name == STREAM:
            expected = replace(expected, stream=found)
        if not found.chains and (copy.may_be_empty or copy.name != DATABASE):
            # A new sink has nothing yet, and a file may just have been rotated, which no anchor can know.
            warnings = tuple(finding for finding in found.findings if finding.severity is Severity.WARNING)
            verdicts[copy.name] = VerifyResult(findings=warnings)
    return dict(reversed(verdicts.items()))


def _key_in(path: Path) -> str:
    try:
        return read_public_key(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _texts(paths: Iterable[Path]) -> Iterator[tuple[bytes, str]]:
    return ((line.text, line.place) for path in paths for line in lines_of([path]))


def report(name: str, verdict: VerifyResult, *, key: str, trusted: Collection[str]) -> str:
    """Return *verdict* on the copy *name* as text; *key* is this data directory's."""
    blocks = [paint(f"{name}:", "cyan")] if name else []
    blocks += [_in_colour(finding) for finding in verdict.findings[:_MOST_PRINTED]]
    if len(verdict.findings) > _MOST_PRINTED:
        blocks.append(f"and {len(verdict.findings) - _MOST_PRINTED} more")
    for _, chain in sorted(verdict.chains.items()):
        signed = _checkpoints(chain)
        rows = [
            ("instance", ", then ".join(chain.names)),
            ("records", f"{chain.records}, {chain.first} to {chain.last}"),
            ("signed", f"{signed} checkpoints, up to record {chain.signed_up_to}" if signed else "no checkpoints"),
            *(("public key", f"{public}, {_whose(public, key=key, trusted=trusted)}") for public in chain.keys),
        ]
        blocks.append(facts(rows))
    match verdict.outcome:
        case Outcome.BROKEN:
            blocks.append(paint("the log is not what the proxy wrote", "red"))
        case Outcome.EMPTY:
            blocks.append("no records: nothing was checked")
        case Outcome.HOLDS:
            blocks.append("the chain holds")
            blocks += [f"{one.name} is {_by_whom(one)}" for one in verdict.chains.values() if not one.trusted]
    return "\n".join(blocks)


def _whose(public: str, *, key: str, trusted: Collection[str]) -> str:
    """Return the fingerprint of the key *public*, and why it is trusted, if it is."""
    name = fingerprint(public)
    if public == key:
        return f"{name} (this data directory's)"
    return f"{name} (named by --key)" if public in trusted else name


def _by_whom(chain: ChainCheck) -> str:
    if not chain.keys:
        return "not signed yet"
    return f"verified by its own key, fingerprint {', '.join(map(fingerprint, chain.keys))}"


def _checkpoints(chain: ChainCheck) -> int:
    return sum(use.checkpoints for use in chain.keys.values())


def as_dict(name: str, verdict: VerifyResult) -> dict[str, Any]:
    """Return *verdict* on the copy *name* as JSON values."""
    return {
        "copy": name,
        "holds": verdict.holds,
        "outcome": verdict.outcome.value,
        "flaws": [finding.as_dict() for finding in verdict.findings],
        "instances": {
            instance: {
                "names": list(chain.names),
                "chain": next(iter(chain.ids), ""),
                "records": chain.records,
                "first": chain.first,
                "last": chain.last,
                "repeated": chain.repeated,
                "checkpoints": _checkpoints(chain),
                "signed_up_to": chain.signed_up_to,
                "public_keys": list(chain.keys),
                "fingerprints": [fingerprint(public) for public in chain.keys],
                "trusted": chain.trusted,
                "stopped": chain.stopped,
            }
            for instance, chain in verdict.chains.items()
        },
    }


def _in_colour(finding: LogFinding) -> str:
    word = finding.severity.value
    return printable(str(finding)).replace(f": {word}: ", f": {paint(word, _COLOURS[finding.severity])}: ", 1)
