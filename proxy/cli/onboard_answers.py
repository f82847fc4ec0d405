"""What `payproxy onboard` has to know: from its options, the JPM_* variables, or the person at the terminal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from proxy.cli.config_template import FLAVORS, PLACEHOLDER, filled_template, guessed_flavor
from proxy.cli.output import ExitCode, Failure, note
from proxy.cli.toml_edit import with_value
from proxy.credentials.csr import EXAMPLE_SUBJECT, Subject, SubjectInvalid
from proxy.settings.findings import Key

ENVIRONMENTS = ("mock", "client-testing", "production")
_HOSTS = {
    "mock": "https://api-mock.payments.jpmorgan.com",
    "client-testing": "https://api-ms-test.payments.jpmorgan.com",
    "production": "https://api.payments.jpmorgan.com",
}
_AUDIENCES = {"basic": "", "jwt": "jpm:uri:prod:payments", "adfs": ""}
_TOKEN_URLS = {"basic": "", "jwt": "", "adfs": "https://idag2.jpmorganchase.com/adfs/oauth2/token"}
# The keys of the configuration that an answer sets, in the template's tables.
SETTINGS: Mapping[str, tuple[Key, ...]] = {
    "client_id": (("credentials", "login", "client_id"),),
    "audience": (("routes", 0, "audience"),),
    "token_url": (("credentials", "login", "token_url"),),
    "url": (("upstreams", "payments", "url"),),
    "egress_proxy": (("credentials", "login", "egress_proxy"), ("upstreams", "payments", "egress_proxy")),
    "key_id_format": (("credentials", "login", "key_id_format"),),
}
# In production nobody may use the bank's token without proof; this is the least that lets this machine's callers in.
_LOCAL_CALLERS = """
[callers.local]            # this machine; others prove themselves with keys: `payproxy callers new NAME`
networks = ["127.0.0.1/32", "::1/128"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers; "" where nothing was answered. *subject* is needed for a new key only."""

    flavor: str = ""
    environment: str = ""
    client_id: str = ""
    subject: str = ""
    audience: str = ""
    token_url: str = ""
    url: str = ""
    egress_proxy: str = ""

    def completed(self, environ: Mapping[str, str], *, asking: bool, needs_subject: bool) -> "Answers":
        """Return the answers with what was missing; *asking*: a person can be asked, else it raises Failure."""
        ask = _asked if asking else _required
        resource = environ.get("JPM_RESOURCE_ID", "")
        flavor = self.flavor or ask("flavor", default=guessed_flavor(environ), choices=FLAVORS)
        basic = flavor == "basic"
        if self.environment and basic != (self.environment == "mock"):
            raise Failure("basic is the flavor of mock, jwt and adfs are those of the others", code=ExitCode.USAGE)
        environment = "mock" if basic else self.environment or ask(
            "environment", default="client-testing", choices=ENVIRONMENTS[1:]
        )  # fmt: skip
        client_id = self.client_id or environ.get("JPM_CLIENT_ID") or ask("client-id")
        audience = self.audience or (resource if flavor == "adfs" else "") or environ.get("JPM_AUDIENCE", "")
        if not audience and not basic:
            audience = ask("audience", default=_AUDIENCES[flavor])
        token_url = self.token_url or environ.get("JPM_TOKEN_URL", "")
        if not token_url and flavor == "adfs":
            token_url = ask("token-url", default=_TOKEN_URLS[flavor])
        return replace(
            self,
            flavor=flavor,
            environment=environment,
            client_id=client_id,
            audience=audience,
            token_url=token_url,
            url=self.url or ask("url", default=_HOSTS[environment]),
            subject=self.subject or (ask("subject") if needs_subject and not basic else ""),
        )

    def configuration(self, environ: Mapping[str, str], **where: Any) -> str:
        """Return the text of the configuration; *where* as in `filled_template`. Raises Failure."""
        given = {
            "JPM_CLIENT_ID": self.client_id,
            "JPM_AUDIENCE": self.audience,
            "JPM_TOKEN_URL": self.token_url,
            **{name: environ.get(name, "") for name in ("JPM_CERT_PATH", "JPM_PRIVATE_KEY_PATH")},
        }
        text, _ = filled_template(self.flavor, given, **where)
        text = with_value(text, ("environment",), self.environment)
        for name in ("url", "egress_proxy"):
            value = getattr(self, name)
            for key in SETTINGS[name] if value else ():
                text = with_value(text, key, value)
        if self.environment == "production":
            hosts = 'hosts = ["127.0.0.1", "localhost"]'
            text = text.replace("[server]\n", f"[server]\n{hosts}\n", 1) + _LOCAL_CALLERS
        return text

    def changes(self) -> dict[str, str]:
        """Return the answers that were given and that a configuration has, by name of the setting."""
        return {name: value for name in SETTINGS if (value := getattr(self, name, ""))}


def parsed_subject(text: str) -> Subject:
    """Return the subject; raises click.BadParameter."""
    try:
        return Subject.parse(text)
    except SubjectInvalid as error:
        raise click.BadParameter(str(error), param_hint="--subject") from None


_QUESTIONS = {
    "flavor": "Flavor: basic is Mock, jwt Client Testing and Production, adfs the legacy endpoint",
    "environment": "Environment",
    "client-id": "Client id (Payments Developer Portal, page Security, tab of the environment)",
    "audience": "Audience, or for adfs the resource id, as the bank gave it out",
    "token-url": "Token URL, as the bank gave it out",
    "url": "URL of the API (the API page of your product names the host)",
    "subject": f'Subject of the certificate, like "{EXAMPLE_SUBJECT}"',
}


def _asked(name: str, *, default: str = "", choices: tuple[str, ...] = ()) -> str:
    kind = click.Choice(choices) if choices else None
    while True:
        answer = str(click.prompt(_QUESTIONS[name], default=default or None, type=kind, err=True)).strip()
        if name != "subject":
            return answer
        try:
            parsed_subject(answer)
        except click.BadParameter as error:
            note(error.message)
        else:
            return answer


def _required(name: str, *, default: str = "", choices: tuple[str, ...] = ()) -> str:  # noqa: ARG001 - as `_asked`
    if default:
        return default
    example = f' "{EXAMPLE_SUBJECT}"' if name == "subject" else ""
    raise Failure(f"there is nobody to ask: give --{name}{example}", code=ExitCode.USAGE)


def subject_from(*, asking: bool) -> str:
    """Return the subject of a certificate that is missing in a later run; raises Failure if nobody can be asked."""
    return (_asked if asking else _required)("subject")


def secret_from(environ: Mapping[str, str], *, asking: bool) -> str:
    """Return the client secret of the flavor basic from JPM_CLIENT_SECRET, or typed without echo; raises Failure."""
    secret = environ.get("JPM_CLIENT_SECRET", "")
    if not secret and asking:
        secret = str(click.prompt("Client secret (not shown)", hide_input=True, err=True))
    if not secret or secret == PLACEHOLDER:
        raise Failure("there is nobody to ask: set JPM_CLIENT_SECRET", code=ExitCode.USAGE)
    return secret


def at_a_terminal() -> bool:
    """Return whether a person can be asked."""
    return os.isatty(0) and os.isatty(2)


def without_password(value: str) -> str:
    """Return *value*; raises Failure for a URL with a user or password, which must not get into the file."""
    if "://" in value and "@" in value:
        raise Failure("a URL here has no user and password: payproxy has none to give", code=ExitCode.USAGE)
    return value
