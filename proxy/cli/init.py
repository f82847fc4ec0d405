"""`payproxy init`: write a first configuration."""

import os
from pathlib import Path

import click

from proxy.cli.config_template import FLAVORS, SECRET_FILE, filled_template, guessed_flavor
from proxy.cli.files import NewFile, write_new
from proxy.cli.options import file_option
from proxy.cli.output import emit, json_option, note


@click.command()
@click.option("--flavor", type=click.Choice(FLAVORS), help="Default: by the JPM_* variables that are set, else jwt.")
@file_option
@json_option
def init(flavor: str | None, config_path: Path | None, *, as_json: bool) -> None:
    """Write a commented payproxy.toml, here or where --config says; nothing is overwritten.

    Takes JPM_CLIENT_ID, JPM_CLIENT_SECRET, JPM_CERT_PATH, JPM_PRIVATE_KEY_PATH, JPM_RESOURCE_ID, JPM_AUDIENCE and
    JPM_TOKEN_URL if they are set. The secret goes into a file of its own (mode 0600), never into the configuration.
    """
    cwd = Path.cwd()
    path = cwd / (config_path or os.environ.get("PAYPROXY_CONFIG") or "payproxy.toml")
    flavor = flavor or guessed_flavor(os.environ)
    text, points = filled_template(flavor, os.environ, cwd=cwd, folder=path.parent)
    files = [NewFile(path=path, data=text.encode())]
    secret = os.environ.get("JPM_CLIENT_SECRET", "") if flavor == "basic" else ""
    if secret:
        files.append(NewFile(path=path.parent / SECRET_FILE, data=secret.encode() + b"\n", secret=True))
    write_new(files)
    emit(
        {"flavor": flavor, "files": [str(file.path) for file in files], "open": points},
        as_json=as_json,
        human="\n".join(str(file.path) for file in files),
    )
    if flavor == "basic" and not secret:
        points.append(f"the client secret, in {path.parent / SECRET_FILE} (chmod 600)")
    note(f"Flavor {flavor}." + (f" Still to be filled in: {', '.join(points)}." if points else ""))
    note("Then: payproxy check")
