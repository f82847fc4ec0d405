"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_SOCKET = "payproxy.socket"

file_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The configuration; default $PAYPROXY_CONFIG, ./payproxy.toml, /etc/payproxy/payproxy.toml.",
)


def _keep_socket(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    context.meta[_SOCKET] = value
    return value


_socket_option = click.option(
    "--socket",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    expose_value=False,
    callback=_keep_socket,
    help="admin.sock of the running instance: its configuration in force is used instead of the file's.",
)


def config_option(command: Command) -> Command:
    """Add --config and --socket to *command*, which needs the running instance or its log."""
    return file_option(_socket_option(command))


def given_socket() -> Path | None:
    """Return the value of --socket of the running command, None without."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_SOCKET) if context is not None else None
