"""`payproxy check`: every fault of a configuration at once."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from proxy.checks.offline import check_files
from proxy.cli.configuration import count_errors, in_colour
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, emit, json_option, note
from proxy.clock import SystemClock
from proxy.settings.findings import Severity
from proxy.settings.sources import find_file


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@config_option
@json_option
def check(files: Sequence[Path], config_path: Path | None, *, as_json: bool) -> None:
    """Print all findings about FILES (default: the configuration that `serve` would take); nothing is sent.

    Several files are also compared: environments must not share a key, certificate or client id. Ends with 1 if there
    are errors, with 78 if a file can't be read at all.
    """
    if files and config_path:
        raise click.UsageError("name the files or --config, not both")
    cwd = Path.cwd()
    asked = list(files) or ([config_path] if config_path else [])
    findings = check_files(asked or None, environ=os.environ, cwd=cwd, now=SystemClock().now())
    emit(
        [finding.as_dict() for finding in findings],
        as_json=as_json,
        human="\n".join(in_colour(finding) for finding in findings) or "no findings",
    )
    usual = find_file(None, environ=os.environ, cwd=cwd)
    paths = asked or ([usual] if usual else [])
    if not paths or not all(_is_readable(cwd / path) for path in paths):
        raise click.exceptions.Exit(ExitCode.CONFIGURATION)
    if any(finding.severity is Severity.ERROR for finding in findings):
        note(f"{count_errors(findings)}: `payproxy serve` would not start")
        raise click.exceptions.Exit(ExitCode.FAILED)


def _is_readable(path: Path) -> bool:
    return os.access(path, os.R_OK) and not path.is_dir()
