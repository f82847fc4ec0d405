"""The text of a first configuration: three flavors, one route, a comment for every line."""

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

_HEAD = """\
# Written by `payproxy init`. `payproxy check` looks for faults, `payproxy serve` runs it; fill in every `...`.
# Every setting and its default: docs/settings.md. Relative paths begin at this file.

environment = {environment}  # mock | client-testing | production; one file for each, with keys of its own

[server]
listen = "127.0.0.1:8080"  # callers use http://127.0.0.1:8080 in place of the bank's base URL

[upstreams.payments]
# {upstream_note}
url = {url}
"""

_ROUTE = """
[[routes]]                 # the first match wins; more rules may choose other credentials, audiences, upstreams
name = "payments"
path = "/"                 # every path; "/payment/v2" would take that path and what is below it
upstream = "payments"
credential = "login"
"""

_BASIC = """
[credentials.login]
flavor = "basic"           # Mock: a client secret shared with the bank
# Payments Developer Portal, page Security, tab Mock: Access token URL, Client Id, Client secret.
client_id = {client_id}
client_secret_file = {secret_file}  # mode 0600; or PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET
{token_url}"""

_JWT = """
[credentials.login]
flavor = "jwt"             # Client Testing and Production: assertions signed with a key that only you have
# Payments Developer Portal, page Security, tab of your environment: ClientId.
client_id = {client_id}
private_key_file = {key_file}  # mode 0600; `payproxy keys new` makes key and certificate
certificate_file = {certificate_file}  # uploaded there as OAUTH; its thumbprint is the kid
# key_id_format = "x5t"    # if `payproxy keys inspect FILE --expect THUMBPRINT` finds another form than sha1-hex
{token_url}"""

_ADFS = """
[credentials.login]
flavor = "adfs"            # legacy: like jwt, with `resource` in place of `audience`
# Client id, resource and token URI come from the bank once it has your certificate or signing request.
client_id = {client_id}
private_key_file = {key_file}  # mode 0600; `payproxy keys new --csr` makes key and request
certificate_file = {certificate_file}  # the one the bank knows; its thumbprint is the kid
{token_url}"""


@dataclass(frozen=True, slots=True)
class _Flavor:
    environment: str
    url: str
    upstream_note: str
    credential: str
    endpoint: str
    endpoint_note: str
    audience: str
    audience_note: str


_CLIENT_TESTING = {
    "environment": "client-testing",
    "url": "https://api-ms-test.payments.jpmorgan.com",
    "upstream_note": "Client Testing host of Online Payments; your product's API page names its own.",
}

_FLAVORS: Mapping[str, _Flavor] = {
    "basic": _Flavor(
        environment="mock",
        url="https://api-mock.payments.jpmorgan.com",
        upstream_note="The bank's mock. It may accept any token, so it proves nothing about tokens.",
        credential=_BASIC,
        endpoint="",
        endpoint_note="the Access token URL, if the page shows another one than the default",
        audience="",
        audience_note="",
    ),
    "jwt": _Flavor(
        **_CLIENT_TESTING,
        credential=_JWT,
        endpoint="",
        endpoint_note="the same for Client Testing and Production",
        audience="jpm:uri:prod:payments",
        audience_note="the bank's own example; yours comes with your product",
    ),
    "adfs": _Flavor(
        **_CLIENT_TESTING,
        credential=_ADFS,
        endpoint="https://idag2.jpmorganchase.com/adfs/oauth2/token",
        endpoint_note="from the bank's own samples; use the token URI it handed you",
        audience=PLACEHOLDER,
        audience_note="the resource id: JPMC:URI:RS-...",
    ),
}

FLAVORS = tuple(_FLAVORS)


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
        flavor = _FLAVORS[self.flavor]
        given = self.token_url or flavor.endpoint
        line = f"token_url = {toml_string(given)}" if given else '# token_url = "https://..."'
        head = _HEAD.format(
            environment=toml_string(flavor.environment), url=toml_string(flavor.url), upstream_note=flavor.upstream_note
        )
        credential = flavor.credential.format(
            client_id=toml_string(self.client_id or PLACEHOLDER),
            secret_file=toml_string(self.secret_file),
            key_file=toml_string(self.key_file),
            certificate_file=toml_string(self.certificate_file),
            token_url=f"{line}  # {flavor.endpoint_note}\n",
        )
        audience = self.audience or flavor.audience
        last = f"audience = {toml_string(audience)}  # {flavor.audience_note}\n" if audience and flavor.audience else ""
        return head + credential + _ROUTE + last

    def open_points(self) -> tuple[str, ...]:
        """Return the keys that still hold a placeholder."""
        flavor = _FLAVORS[self.flavor]
        points = [] if self.client_id else ["client_id"]
        if not self.audience and flavor.audience == PLACEHOLDER:
            points.append("audience (the resource id)")
        return tuple(points)


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
