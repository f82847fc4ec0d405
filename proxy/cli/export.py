"""`payproxy export`: files that fit a configuration, for the platform that runs or watches payproxy."""

import os
from pathlib import Path

import click

from proxy.cli.finding_text import count_errors, finding_text
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, note
from proxy.settings.load import load
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings
from proxy.settings.placeholder import LEFT_IN, NOT_GIVEN
from proxy.settings.sources import ENVIRONMENT
from proxy.settings.stores import DATABASE, REDIS, StoreUrl, UrlForm, UrlUnusable


@click.group()
def export() -> None:
    """Print files that fit this configuration; placeholders and missing secrets don't matter."""


@export.command()
@click.option("--socket", "as_socket", is_flag=True, help="Print payproxy.socket instead of payproxy.service.")
@file_option
def systemd(config_path: Path | None, *, as_socket: bool) -> None:
    """Print the unit payproxy.service: its directories, credentials, time limits and restrictions.

    It expects the configuration as /etc/payproxy/payproxy.toml, with the files that are beside it here.
    """
    from proxy.export import systemd as target  # noqa: PLC0415 - imported when it runs

    loaded, settings = exported(config_path)
    try:
        text = target.socket(settings) if as_socket else target.service(settings, base=loaded.path.parent)
    except target.NotForSystemd as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
    click.echo(text, nl=False)
    if not as_socket:
        note_left_out(loaded, text, "in a file, such as client_secret_file, for LoadCredential")


@export.command()
@file_option
def kubernetes(config_path: Path | None) -> int:
    """Print values for the Helm chart in deploy/helm/payproxy, with the commands that make the Secrets as comments.

    Exit code 1 if something in the configuration does not work in a pod; the first lines say what.
    """
    from proxy.export import kubernetes as target  # noqa: PLC0415 - imported when it runs
    from proxy.export.destinations import destinations  # noqa: PLC0415

    loaded, settings = exported(config_path)
    redis = _store(settings.state.url, settings.state.url_file, REDIS)
    database = _store(settings.request_log.database, settings.request_log.database_file, DATABASE)
    hosts = destinations(settings, redis=redis, database=database)
    folder = loaded.path.parent
    text = loaded.path.read_text("utf-8-sig")
    click.echo(target.kubernetes(settings, text=text, folder=folder, destinations=hosts), nl=False)
    note_left_out(loaded, "", "in a Secret")
    found = target.problems(settings, text=text, folder=folder)
    for problem in found:
        note(f"does not work in a pod: {problem}")
    return ExitCode.FAILED if found else ExitCode.OK


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


def note_left_out(loaded: Loaded, text: str, place: str) -> None:
    """Say which settings come from the environment alone: where the output *text* runs, they would be missing.

    *place* is where a secret belongs. A variable that the output sets itself is not left out.
    """
    for source in sorted(set(loaded.sources.values())):
        variable = source.removeprefix(ENVIRONMENT)
        if variable != source and f"Environment={variable}=" not in text:
            note(f"{source} is not in the output: write it in the configuration, or, if it is a secret, {place}")


def scraped_settings(path: Path | None) -> Settings:
    """Return the settings in *path*; raise Failure if Prometheus could not read an instance's metrics."""
    _, settings = exported(path)
    if not settings.admin.listen:
        raise Failure('admin.listen is "", so there is no /metrics for Prometheus; set admin.listen')
    return settings


def exported(path: Path | None) -> tuple[Loaded, Settings]:
    """Return the settings in *path* (default: where `serve` looks).

    Placeholders may not be filled in yet, and client secrets be missing. Prints the findings to stderr; raises Failure
    with exit code 78 if there are other errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for finding in loaded.findings:
        note(finding_text(finding, err=True))
    errors = [finding for finding in loaded.errors if not finding.what.endswith((LEFT_IN, NOT_GIVEN))]
    if loaded.readable is None or errors:
        raise Failure(f"the configuration has {count_errors(errors)}", code=ExitCode.CONFIGURATION)
    return loaded, loaded.readable


def _store(url: StoreUrl, file: str, form: UrlForm) -> StoreUrl | None:
    """Return the URL of a store, None if it is in a file that can't be read on this machine."""
    if not file:
        return url
    try:
        return form.read(Path(file))
    except UrlUnusable:
        return None
