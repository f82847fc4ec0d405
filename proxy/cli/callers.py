"""`payproxy callers`: API keys for callers of the proxy."""

import hashlib
import re

import click

from proxy.cli.output import emit, json_option, note
from proxy.entropy import SystemEntropy

# The table names that a configuration may have.
TABLE_NAME = re.compile("[a-z][a-z0-9_-]*")


@click.group()
def callers() -> None:
    """Make keys for callers."""


@callers.command()
@click.argument("name")
@json_option
def new(name: str, *, as_json: bool) -> None:
    """Make a 128-bit key for the caller NAME and the configuration lines that admit it.

    The key is printed only once; the configuration holds its SHA-256 only.
    """
    if not TABLE_NAME.fullmatch(name):
        raise click.BadParameter("a name starts with a-z and goes on with a-z, 0-9, _ and -", param_hint="NAME")
    key = SystemEntropy().token_bytes(16).hex()
    digest = hashlib.sha256(key.encode()).hexdigest()
    lines = f'[callers.{name}]\napi_key_sha256 = ["{digest}"]'
    emit(
        {"name": name, "key": key, "api_key_sha256": digest, "configuration": lines},
        as_json=as_json,
        human=f"key: {key}\n\n{lines}",
    )
    note(
        f"\nThe key is shown only once. Hand it to {name}, which sends it as X-Payproxy-Key or as Basic password;\n"
        "paste the two lines into payproxy.toml. To change a key, list the new digest next to the old one for a while."
    )
