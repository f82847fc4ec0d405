"""The passphrase of an encrypted key: from a file of mode 0600, as in the configuration, never from a flag."""

from pathlib import Path

import click

from proxy.cli.output import Failure
from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.secret import Secret

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="File (mode 0600) with the passphrase of an encrypted key; one trailing newline is dropped.",
)


def read_passphrase(path: Path | None) -> Secret | None:
    """Return the secret in *path*, None without a path; raises Failure if the file can't be used."""
    try:
        return None if path is None else read_secret_file(path)
    except CredentialUnusable as error:
        raise Failure(str(error)) from None
