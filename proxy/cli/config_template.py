"""The text of a first configuration: a template per flavor, one route, a comment for every line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.output import Failure

# `check` reports this as a placeholder: the user must replace it by the bank's value.
PLACEHOLDER = "..."

SECRET_FILE = "client-secret"  # noqa: S105 - a file's name
KEY_FILE = "oauth.key"
CERTIFICATE_FILE = "oauth.crt"

# The token endpoint and the audience that are written if the user gives none, by flavor.
_DEFAULTS: Mapping[str, tuple[str, str]] = {
    "basic": ("", ""),
    "jwt": ("", "jpm:uri:prod:payments"),
    "adfs": ("https://idag2.jpmorganchase.com/adfs/oauth2/token", PLACEHOLDER),
}

FLAVORS = tuple(_DEFAULTS)


def filled_template(flavor: str, environ: Mapping[str, str], *, cwd: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the configuration of that *flavor* with the values of the JPM_* variables, and its keys without a value.

    Paths are relative to *cwd* in the variables, and to *folder* in the configuration. Raises Failure.
    """
    for name, value in environ.items():
        if name.startswith("JPM_") and not value.isprintable():
            raise Failure(f"{name} holds a control character or line break; set it again")
    token_url, audience = _DEFAULTS[flavor]
    client_id = environ.get("JPM_CLIENT_ID") or PLACEHOLDER
    token_url = environ.get("JPM_TOKEN_URL") or token_url
    audience = environ.get("JPM_AUDIENCE") or audience
    if flavor == "adfs":
        audience = environ.get("JPM_RESOURCE_ID") or audience
    key_file = environ.get("JPM_PRIVATE_KEY_PATH") or KEY_FILE
    certificate_file = environ.get("JPM_CERT_PATH") or CERTIFICATE_FILE
    text = template(flavor).format(
        client_id=toml_string(client_id),
        secret_file=toml_string(SECRET_FILE),
        key_file=toml_string(_moved(key_file, cwd=cwd, folder=folder)),
        certificate_file=toml_string(_moved(certificate_file, cwd=cwd, folder=folder)),
        token_url=f"token_url = {toml_string(token_url)}" if token_url else '# token_url = "https://..."',
        audience=toml_string(audience),
    )
    values = {"client_id": client_id, "audience (the resource id)": audience}
    return text, [name for name, value in values.items() if value == PLACEHOLDER]


def template(name: str) -> str:
    """Return the TOML of that *name* in templates/, which str.format fills."""
    return (Path(__file__).with_name("templates") / f"{name}.toml").read_text("utf-8")


def guessed_flavor(environ: Mapping[str, str]) -> str:
    """Return the flavor that the JPM_* variables indicate, jwt by default."""
    if environ.get("JPM_RESOURCE_ID"):
        return "adfs"
    if environ.get("JPM_CLIENT_SECRET") and not environ.get("JPM_PRIVATE_KEY_PATH"):
        return "basic"
    return "jwt"


def toml_string(text: str) -> str:
    """Return *text* as a TOML basic string; without control characters that is the same as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def _moved(name: str, *, cwd: Path, folder: Path) -> str:
    """Return the file *name*, relative to *cwd*, as a path relative to *folder*; absolute if it is not below that."""
    path = Path(os.path.normpath(cwd / name))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
