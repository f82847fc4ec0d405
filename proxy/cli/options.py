"""Options that several commands share."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The configuration; default $PAYPROXY_CONFIG, ./payproxy.toml, /etc/payproxy/payproxy.toml.",
)
