"""`payproxy callers`: API keys for callers of the proxy."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import click

from proxy.cli.files import NewFile, write_new
from proxy.cli.output import emit, json_option, note
from proxy.entropy import SystemEntropy

# The table names that a configuration may have.
TABLE_NAME = re.compile("[a-z][a-z0-9_-]*")
_HOW = (
    "which sends it as X-Payproxy-Key or as Basic password;\n"
    "paste the printed lines into payproxy.toml. To change a key, list the new digest next to the old one for a while."
)


@click.group()
def callers() -> None:
    """Make keys for callers."""


@callers.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each key into a file DIR/NAME.key (0600) instead of printing it; needed for several callers.",
)
@json_option
def new(names: Sequence[str], out: Path | None, *, as_json: bool) -> None:
    """Make a 128-bit key for each caller NAME, and the configuration lines that admit it.

    A key is printed only once, or written into a file of its own; the configuration holds its SHA-256 only.
    """
    _check(names, out)
    keys = {name: SystemEntropy().token_bytes(16).hex() for name in names}
    lines = {name: _lines(name, key) for name, key in keys.items()}
    if out is None:
        (name,) = names
        emit(_values(name, keys[name]), as_json=as_json, human=f"key: {keys[name]}\n\n{lines[name]}")
        note(f"\nThe key is shown only once. Hand it to {name}, {_HOW}")
        return
    files = {name: out / f"{name}.key" for name in names}
    write_new([NewFile(path=files[name], data=f"{key}\n".encode(), secret=True) for name, key in keys.items()])
    values = [{name: value for name, value in _values(one, keys[one]).items() if name != "key"} for one in names]
    emit(
        [value | {"key_file": str(files[str(value["name"])])} for value in values],
        as_json=as_json,
        human="\n\n".join(lines.values()),
    )
    note(f"\nThe keys are in {', '.join(map(str, files.values()))}. Hand each to its caller, {_HOW}")


def _check(names: Sequence[str], out: Path | None) -> None:
    for name in names:
        if not TABLE_NAME.fullmatch(name):
            what = f'"{name}": a name starts with a-z and goes on with a-z, 0-9, _ and -'
            raise click.BadParameter(what, param_hint="NAME")
        if names.count(name) > 1:
            raise click.BadParameter(f"{name} is named twice", param_hint="NAME")
    if len(names) > 1 and out is None:
        raise click.UsageError("keys of several callers go into files: --out DIR")


def _values(name: str, key: str) -> dict[str, str]:
    return {"name": name, "key": key, "api_key_sha256": _digest(key), "configuration": _lines(name, key)}


def _lines(name: str, key: str) -> str:
    return f'[callers.{name}]\napi_key_sha256 = ["{_digest(key)}"]'


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
