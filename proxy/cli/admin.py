"""`payproxy admin`: who may use the console."""

import json
import sys
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.instance import Denied, ask
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option, note
from proxy.entropy import SystemEntropy
from proxy.settings.scrypt import SALT_BYTES, make
from proxy.times import duration

# A copy of the name in keeper/console.py: importing the keeper would take longer than the call.
_LOGIN_LINK = "/api/console/login-link"
# NIST SP 800-63B 5.1.1.2 asks for at least 8; a console that moves payments may ask for more.
_SHORTEST = 12


@click.group()
def admin() -> None:
    """Sign in to the console, and make operators."""


@admin.command("login-link")
@click.option("--role", type=click.Choice(["operator", "viewer"]), default="operator", show_default=True)
@config_option
@json_option
def login_link(config_path: Path | None, *, role: str, as_json: bool) -> None:
    """Print a link that signs in to the console of the running instance, once and within five minutes.

    Who opens it acts in your name. It needs [admin] operators; without any the console is read-only and open.
    """
    directory = Path(load_configuration(config_path).settings.data_directory)
    try:
        answer = ask(directory, _LOGIN_LINK, {"role": role})
    except Denied as denied:
        if denied.status != 404:
            raise
        raise Failure(
            "the running instance has no console: [admin] listen needs a host and port, and console must be true"
        ) from None
    emit(answer, as_json=as_json, human=str(answer["url"]))
    note(f"It signs in once, as {answer['role']}, within {duration(answer['seconds'])}.")


@admin.command("hash-password")
@click.argument("name")
@json_option
def hash_password(name: str, *, as_json: bool) -> None:
    """Ask for the password of the operator NAME and print the configuration line with its scrypt hash.

    The password is read from the terminal, or from standard input if that is none. It needs 12 characters.
    """
    if not (name and name.isprintable()):
        raise click.BadParameter("a name is on one line and has no control characters", param_hint="NAME")
    password = _password()
    if len(password) < _SHORTEST:
        raise click.UsageError(f"a password has {_SHORTEST} characters or more")
    digest = make(password, SystemEntropy().token_bytes(SALT_BYTES))
    line = f"[admin.operators]\n{_quoted(name)} = {_quoted(digest)}"
    emit({"name": name, "hash": digest, "configuration": line}, as_json=as_json, human=line)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _quoted(text: str) -> str:
    # Of printable text JSON's strings are TOML's basic strings.
    return json.dumps(text, ensure_ascii=False)
