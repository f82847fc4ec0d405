"""`payproxy doctor`: what is wrong with this machine, each finding with the command that mends it."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

import proxy.lean_aiohttp  # noqa: F401 - before everything else that imports aiohttp
from proxy.checks.container import in_container
from proxy.checks.machine.examine import examine
from proxy.checks.machine.line import Line, Status
from proxy.checks.offline import check_loaded
from proxy.checks.shared_host import other_users
from proxy.cli.instance import answers
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, emit, json_option, note, paint, printable, terminal_width, wrapped
from proxy.cli.progress import progress
from proxy.clock import SystemClock
from proxy.settings.load import load
from proxy.settings.loaded import Loaded
from proxy.settings.sources import find_file

_COLOURS = {Status.OK: "green", Status.SKIPPED: "cyan", Status.WARNING: "yellow", Status.ERROR: "red"}
_WIDEST = max(map(len, Status))


@click.command()
@click.option("--offline", is_flag=True, help="Connect to no server: for a machine that is built elsewhere.")
@file_option
@json_option
def doctor(config_path: Path | None, *, offline: bool, as_json: bool) -> None:
    """Say what is wrong with this machine: one line for each subject, a finding with the command that mends it.

    Runtime, permissions, disk, limits, ports, service manager, clock, network and egress proxy; what `payproxy check`
    finds about the file too. Works without a configuration and with a broken one. Connects to the servers that a
    configuration without errors names, and asks each token endpoint for its time. Run it as the service's user.

    Ends with 1 if there are errors, with 78 if a configuration that is named can't be read.
    """
    clock, cwd = SystemClock(), Path.cwd()
    path = find_file(config_path, environ=os.environ, cwd=cwd)
    loaded = load(path, environ=os.environ, cwd=cwd) if path else None
    container, users = in_container(os.environ), other_users(os.environ)
    findings = check_loaded(loaded, now=clock.now(), container=container, users=users) if loaded else []
    settings = loaded.readable if loaded else None
    with progress("looking at this machine, DNS and token endpoints"):
        lines = asyncio.run(
            examine(
                settings,
                findings,
                cwd=cwd,
                environ=os.environ,
                clock=clock,
                running=settings is not None and answers(Path(settings.data_directory)),
                online=loaded is not None and loaded.settings is not None and not offline,
            )
        )
    emit([line.as_dict() for line in lines], as_json=as_json, human="\n".join(map(_text, lines)))
    _end(lines, loaded)


def _text(line: Line) -> str:
    word = paint(f"{line.status.value:<{_WIDEST}}", _COLOURS[line.status])
    indent = " " * (_WIDEST + 2)
    width = terminal_width()
    said = wrapped(printable(f"{line.check}: {line.what}"), width=width, indent=indent, first=indent)
    text = f"{word}  {said.lstrip()}"
    return (
        f"{text}\n{wrapped(printable(line.fix), width=width, indent=indent, first=indent + '-> ')}"
        if line.fix
        else text
    )


def _counted(status: Status, number: int) -> str:
    return f"{status.value}s" if number > 1 and status in {Status.WARNING, Status.ERROR} else status.value


def _end(lines: Sequence[Line], loaded: Loaded | None) -> None:
    count = Counter(line.status for line in lines)
    note(", ".join(f"{count[one]} {_counted(one, count[one])}" for one in Status if count[one]))
    if loaded is None:
        note("no configuration was found: `payproxy onboard` makes one, --config names one")
    elif not os.access(loaded.path, os.R_OK) or loaded.path.is_dir():
        raise click.exceptions.Exit(ExitCode.CONFIGURATION)
    if count[Status.ERROR]:
        raise click.exceptions.Exit(ExitCode.FAILED)
