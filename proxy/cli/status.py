"""`payproxy status`: the running instance on one screen, once or every second."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import get_terminal_size
from threading import Event
from typing import Any, NoReturn

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.instance import STATUS, NotRunning, ask
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, escaped, json_option, takes_escapes, terminal_width
from proxy.cli.status_text import status_text

_WATCH_SECONDS = 1.0
# Cursor to the upper left corner and clear what is below (ECMA-48 CUP, ED): no line of an earlier screen stays.
_CLEAR = "\x1b[H\x1b[J"
# DECAWM, off and on: a line that is too long ends at the edge.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C; also over a restart.")
@config_option
@json_option
def status(config_path: Path | None, *, watch: bool, as_json: bool) -> None:
    """Show the running instance on one screen.

    Whether it is ready or why not; tokens with seconds left, certificates with days left, who called within the last
    hour, errors with what they mean and what to do, how far each sink is behind, migrations and replicas.

    --json prints what /api/status serves; with --watch one line of JSON a second.
    """
    directory = Path(load_configuration(config_path).settings.data_directory)
    if watch:
        _watch(lambda: _answer(directory), as_json=as_json)
    found = _answer(directory)
    emit(found, as_json=as_json, human=status_text(found, width=terminal_width()))


def _answer(directory: Path) -> dict[str, Any]:
    """Return the instance's status; raises Failure if none runs, or one of another version."""
    found = ask(directory, STATUS)
    if missing := {"checks", "callers", "errors", "sinks"} - found.keys():
        raise Failure(f"the running instance is of an older version: its status has no {', '.join(sorted(missing))}")
    return found


def _watch(answer: Callable[[], dict[str, Any]], *, as_json: bool) -> NoReturn:
    """Print the status every second until the process is interrupted; an instance that is away is waited for.

    There is no event loop: it would keep Ctrl-C back until the answer or its time-out.
    """
    on_terminal = takes_escapes(sys.stdout) and not as_json
    while True:
        try:
            found = answer()
            text = _line(found) if as_json else status_text(found, width=terminal_width())
        except NotRunning as away:
            text = _line({"ready": False, "problem": away.message}) if as_json else away.message
        click.echo(_redrawn(text) if on_terminal else text if as_json else f"{text}\n")
        Event().wait(_WATCH_SECONDS)


def _line(value: object) -> str:
    return escaped(json.dumps(value, ensure_ascii=False))


def _redrawn(text: str) -> str:
    """Return what replaces the screen of the terminal by *text*, without the lines that have no room."""
    lines, room = text.split("\n"), max(get_terminal_size().lines, 3)
    shown = lines if len(lines) < room else [*lines[: room - 2], f"... {len(lines) - room + 2} more lines"]
    return f"{_CLEAR}{_NO_WRAP}{chr(10).join(shown)}{_WRAP}"
