"""The text of a first configuration: a template per flavor, one route, a comment for every line."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


class TemplateInvalid(ValueError):
    """A variable holds characters that a configuration can't; the message names it, never its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigTemplate:
    """The values that `init` writes; "" for those that the user has not given. File names are written as they are."""

    flavor: str
    client_id: str = ""
    audience: str = ""
    token_url: str = ""
    key_file: str = KEY_FILE
    certificate_file: str = CERTIFICATE_FILE
    secret_file: str = SECRET_FILE

    @classmethod
    def from_environment(
        cls, flavor: str | None, environ: Mapping[str, str], *, cwd: Path, folder: Path
    ) -> "ConfigTemplate":
        """Read the JPM_* variables; paths are relative to *cwd* there and to *folder* in the configuration.

        Raises TemplateInvalid. JPM_CLIENT_SECRET is only used to choose the flavor.
        """
        for name, value in environ.items():
            if name.startswith("JPM_") and not value.isprintable():
                raise TemplateInvalid(f"{name} holds a control character or line break; set it again")
        chosen = flavor or guessed_flavor(environ)
        resource, audience = environ.get("JPM_RESOURCE_ID", ""), environ.get("JPM_AUDIENCE", "")
        return cls(
            flavor=chosen,
            client_id=environ.get("JPM_CLIENT_ID", ""),
            audience=(resource or audience) if chosen == "adfs" else audience,
            token_url=environ.get("JPM_TOKEN_URL", ""),
            key_file=_moved(environ.get("JPM_PRIVATE_KEY_PATH") or KEY_FILE, cwd=cwd, folder=folder),
            certificate_file=_moved(environ.get("JPM_CERT_PATH") or CERTIFICATE_FILE, cwd=cwd, folder=folder),
        )

    def text(self) -> str:
        """Return the configuration."""
        endpoint, audience = _DEFAULTS[self.flavor]
        token_url = self.token_url or endpoint
        return template(self.flavor).format(
            client_id=toml_string(self.client_id or PLACEHOLDER),
            secret_file=toml_string(self.secret_file),
            key_file=toml_string(self.key_file),
            certificate_file=toml_string(self.certificate_file),
            token_url=f"token_url = {toml_string(token_url)}" if token_url else '# token_url = "https://..."',
            audience=toml_string(self.audience or audience),
        )

    def open_points(self) -> tuple[str, ...]:
        """Return the keys that still hold a placeholder."""
        points = [] if self.client_id else ["client_id"]
        if not self.audience and _DEFAULTS[self.flavor][1] == PLACEHOLDER:
            points.append("audience (the resource id)")
        return tuple(points)


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
