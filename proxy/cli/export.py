"""`payproxy export`: files that fit a configuration."""

import os
from pathlib import Path

import click

from proxy.cli.configuration import count_errors
from proxy.cli.finding_text import finding_text
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, note
from proxy.settings.load import Loaded, load
from proxy.settings.model import Settings
from proxy.settings.placeholder import LEFT_IN
from proxy.settings.stores import DATABASE, REDIS, StoreUrl, UrlForm, UrlUnusable


@click.group()
def export() -> None:
    """Print files that fit this configuration; placeholders that are still in it don't matter."""


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
    for variable in sorted({source for source in loaded.sources.values() if source.startswith("environment variable")}):
        note(f"{variable} is not in the output: write the setting in the file, or, if it is a secret, in a Secret")
    found = target.problems(settings, text=text, folder=folder)
    for problem in found:
        note(f"does not work in a pod: {problem}")
    return ExitCode.FAILED if found else ExitCode.OK


def exported(path: Path | None) -> tuple[Loaded, Settings]:
    """Return the settings in *path* (default: where `serve` looks), of which placeholders may not be filled in yet.

    Prints the findings to stderr; raises Failure with exit code 78 if there are other errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for finding in loaded.findings:
        note(finding_text(finding, err=True))
    errors = [finding for finding in loaded.errors if finding.what != LEFT_IN]
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
