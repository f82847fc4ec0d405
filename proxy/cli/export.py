"""`payproxy export`: files that fit a configuration."""

import os
from pathlib import Path

import click

from proxy.cli.configuration import count_errors
from proxy.cli.finding_text import finding_text
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, note
from proxy.settings.load import load
from proxy.settings.model import Settings
from proxy.settings.placeholder import LEFT_IN


@click.group()
def export() -> None:
    """Print files that fit this configuration; placeholders that are still in it don't matter."""


@export.command()
@file_option
@click.option(
    "--runbook",
    default="docs/operations.md",
    show_default=True,
    metavar="URL",
    help="Where your people read docs/operations.md: each alert's runbook_url begins with it.",
)
def prometheus(config_path: Path | None, *, runbook: str) -> None:
    """Print alerting rules for Prometheus."""
    from proxy.export import prometheus as target  # noqa: PLC0415 - imported when it runs

    click.echo(target.prometheus(scraped_settings(config_path), runbook=runbook), nl=False)


@export.command()
@file_option
def grafana(config_path: Path | None) -> None:
    """Print a dashboard for Grafana, to be imported there."""
    from proxy.export import grafana as target  # noqa: PLC0415 - imported when it runs

    click.echo(target.grafana(scraped_settings(config_path)), nl=False)


def scraped_settings(path: Path | None) -> Settings:
    """Return the settings in *path*; raise Failure if Prometheus could not read an instance's metrics."""
    settings = exported_settings(path)
    if not settings.admin.listen:
        raise Failure('admin.listen is "", so there is no /metrics for Prometheus; set admin.listen')
    return settings


def exported_settings(path: Path | None) -> Settings:
    """Return the settings in *path* (default: where `serve` looks), of which placeholders may not be filled in yet.

    Prints the findings to stderr; raises Failure with exit code 78 if there are other errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for finding in loaded.findings:
        note(finding_text(finding, err=True))
    errors = [finding for finding in loaded.errors if finding.what != LEFT_IN]
    if loaded.readable is None or errors:
        raise Failure(f"the configuration has {count_errors(errors)}", code=ExitCode.CONFIGURATION)
    return loaded.readable
