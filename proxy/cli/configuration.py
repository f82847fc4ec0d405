"""The configuration for commands: from a file without errors, or as the running instance has it in force."""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import click
from pydantic import ValidationError

from proxy.cli.finding_text import count_errors, finding_text
from proxy.cli.instance import CONFIGURATION, SOCKET_NAME, Denied, answers, ask, data_directories
from proxy.cli.options import given_socket
from proxy.cli.output import ExitCode, Failure, note
from proxy.settings.findings import Severity
from proxy.settings.load import load
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings
from proxy.settings.models import validated


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings, and where they came from.

    *guessed*: the file has errors and no instance answered; these are the settings that could be read of the file.
    """

    settings: Settings
    loaded: Loaded
    guessed: bool = False


def valid_configuration(path: Path | None) -> Configuration:
    """Return the configuration in *path* (default: where `serve` looks); prints its findings to stderr.

    For commands that act on the file. Raises Failure with exit code 78 if there are errors.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for finding in loaded.findings:
        note(finding_text(finding, err=True))
    if loaded.settings is None:
        raise Failure(f"the configuration has {count_errors(loaded.findings)}", code=ExitCode.CONFIGURATION)
    return Configuration(settings=loaded.settings, loaded=loaded)


def load_configuration(path: Path | None) -> Configuration:
    """Return the configuration for a command to the running instance or its log; file errors don't stop the command.

    If the file has errors, or --socket names the instance, this is what that instance has in force; if none runs, what
    can be read of the file. A message on stderr states which. Raises Failure if --socket does not answer.
    """
    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    socket = given_socket()
    if socket is not None:
        return Configuration(settings=_in_force(socket), loaded=loaded)
    if loaded.settings is not None:
        for finding in loaded.findings:
            note(finding_text(finding, err=True))
        return Configuration(settings=loaded.settings, loaded=loaded)
    note(finding_text(next(one for one in loaded.findings if one.severity is Severity.ERROR), err=True))
    problem = f"the configuration has {count_errors(loaded.findings)}"
    named = [loaded.readable.data_directory] if loaded.readable and loaded.positions.source(("data_directory",)) else []
    directories = data_directories(loaded.path, first=named, environ=os.environ)
    answering = [directory for directory in directories if answers(directory)]
    for directory in answering:
        with contextlib.suppress(Failure):  # an instance of a version without this API
            settings = _in_force(directory / SOCKET_NAME)
            note(f"{problem}; going on with what the instance on {directory / SOCKET_NAME} has in force")
            return Configuration(settings=settings, loaded=loaded)
    readable = loaded.readable or load(path, environ=os.environ, cwd=Path.cwd(), salvage=True).readable
    if readable is None or not (answering or loaded.path.exists()):
        raise Failure(f"{problem}; `--socket PATH` names a running instance", code=ExitCode.CONFIGURATION)
    directory = next(iter([*answering, *filter(Path.is_dir, directories), *directories]))
    note(f"{problem} and no instance runs that has its own; going on with what can be read and the data in {directory}")
    settings = replace(readable, data_directory=str(directory))
    return Configuration(settings=settings, loaded=loaded, guessed=True)


def _in_force(socket: Path) -> Settings:
    """Return what the instance at *socket* has in force, without its secrets; raises Failure."""
    if socket.name != SOCKET_NAME:
        raise click.BadParameter(f"it is called {SOCKET_NAME}, in the data directory", param_hint="--socket")
    directory = socket.absolute().parent
    try:
        settings = validated(Settings, ask(directory, CONFIGURATION)["settings"])
    except (Denied, KeyError, TypeError, ValidationError):
        raise Failure(f"the instance on {socket} does not return its configuration: it is of another version") from None
    # The directory's path on this side: in a container it differs.
    return replace(settings, data_directory=str(directory))
