"""`payproxy export`: files for the platform that runs payproxy, made from the configuration."""

import os
from pathlib import Path

import click

from proxy.cli.configuration import count_errors
from proxy.cli.finding_text import finding_text
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, note
from proxy.export.systemd import NotForSystemd, service, socket
from proxy.settings.load import load
from proxy.settings.model import Settings
from proxy.settings.placeholder import PLACEHOLDER_LEFT


@click.group()
def export() -> None:
    """Print files that fit this configuration, for systemd, Kubernetes, Prometheus and Grafana."""


@export.command()
@click.option("--socket", "as_socket", is_flag=True, help="Print payproxy.socket instead of payproxy.service.")
@file_option
def systemd(config_path: Path | None, *, as_socket: bool) -> None:
    """Print the unit payproxy.service: its directories, credentials, time limits and restrictions.

    It expects the configuration as /etc/payproxy/payproxy.toml, with the files that are beside it here.
    """
    settings, base = exportable(config_path)
    try:
        click.echo(socket(settings) if as_socket else service(settings, base=base), nl=False)
    except NotForSystemd as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None


def exportable(path: Path | None) -> tuple[Settings, Path]:
    """Return the settings in the file *path* and the directory that its paths are relative to.

    A placeholder that was left in is no hindrance: the files do not depend on it. Raises Failure for other errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    errors = [finding for finding in loaded.errors if finding.what != PLACEHOLDER_LEFT]
    for finding in loaded.findings:
        note(finding_text(finding, err=True))
    if loaded.readable is None or errors:
        raise Failure(f"the configuration has {count_errors(loaded.findings)}", code=ExitCode.CONFIGURATION)
    return loaded.readable, loaded.path.parent
