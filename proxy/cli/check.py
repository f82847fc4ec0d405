"""`payproxy check`: report all faults of a configuration at once, and on request those of the way to the bank."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from proxy.checks.container import in_container
from proxy.checks.offline import check_files
from proxy.checks.shared_host import other_users
from proxy.cli.finding_text import count_errors, finding_text
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, emit, json_option, note, printable
from proxy.cli.progress import progress
from proxy.clock import SystemClock
from proxy.settings.findings import Finding, Severity, in_order
from proxy.settings.sources import find_file


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--online", is_flag=True, help="Also test DNS, TLS, the clock, and one mint for each token that the routes need."
)
@click.option(
    "--call", is_flag=True, help="Like --online, and send GET /payment/helloworld through each route that takes it."
)
@file_option
@json_option
def check(files: Sequence[Path], config_path: Path | None, *, online: bool, call: bool, as_json: bool) -> None:
    """Print all findings about FILES (default: the configuration that `serve` would take).

    Several files are also compared: environments must not share a key, certificate or client id. Without --online or
    --call nothing is sent. Ends with 1 if there are errors, with 78 if a file can't be read at all.
    """
    if files and config_path:
        raise click.UsageError("name the files or --config, not both")
    cwd = Path.cwd()
    asked = list(files) or ([config_path] if config_path else [])
    offline = check_files(
        asked or None,
        environ=os.environ,
        cwd=cwd,
        now=SystemClock().now(),
        container=in_container(os.environ),
        users=other_users(os.environ),
    )
    found = []
    if online or call:
        from proxy.cli.check_online import ask  # noqa: PLC0415 - without it, no HTTP client is imported

        with progress("asking DNS, token endpoints and the bank"):
            found = ask(asked or [None], cwd=cwd, call=call, offline=offline)
    findings = in_order([*offline, *(finding for one in found for finding in one.findings)])
    emit(
        [finding.as_dict() for finding in findings],
        as_json=as_json,
        human="\n".join(finding_text(finding) for finding in findings) or "no findings",
    )
    for line in (line for one in found for line in one.notes):
        note(printable(line))
    paths = asked or [path for path in [find_file(None, environ=os.environ, cwd=cwd)] if path]
    if not paths or not all(os.access(cwd / path, os.R_OK) and not (cwd / path).is_dir() for path in paths):
        raise click.exceptions.Exit(ExitCode.CONFIGURATION)
    if _errors(offline):
        note(f"{count_errors(offline)}: `payproxy serve` would not start")
    if _errors(findings):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _errors(findings: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)
