"""The configuration as commands need it: whole, or every fault on stderr and exit code 78."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.cli.output import ExitCode, Failure, note, paint, printable
from proxy.settings.findings import Finding, Severity
from proxy.settings.load import Loaded, load
from proxy.settings.sections import Settings

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings without errors, and where they came from."""

    settings: Settings
    loaded: Loaded


def load_configuration(path: Path | None) -> Configuration:
    """Return the configuration in *path* (default: where contract.md looks); its faults go to stderr.

    Raises Failure with exit code 78 if there are errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for finding in loaded.findings:
        note(in_colour(finding, err=True))
    if loaded.settings is None:
        raise Failure(f"the configuration has {count_errors(loaded.findings)}", code=ExitCode.CONFIGURATION)
    return Configuration(settings=loaded.settings, loaded=loaded)


def count_errors(findings: Sequence[Finding]) -> str:
    """Return the number of error findings in words."""
    number = sum(finding.severity is Severity.ERROR for finding in findings)
    return "1 error" if number == 1 else f"{number} errors"


def in_colour(finding: Finding, *, err: bool = False) -> str:
    """Return the line of *finding*, its severity in colour where that stream is a terminal."""
    word = finding.severity.value
    return printable(str(finding)).replace(f" {word}: ", f" {paint(word, _COLOURS[finding.severity], err=err)}: ", 1)
