"""OTLP endpoints from the standard variables of OpenTelemetry; without an endpoint nothing is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from proxy.secret import Secret

_PREFIX = "OTEL_EXPORTER_OTLP"
_DEFAULT_TIMEOUT_MILLISECONDS = 10_000


class Signal(StrEnum):
    """The OTLP signals that a record becomes."""

    LOGS = "logs"
    TRACES = "traces"


class TargetUnusable(ValueError):
    """A variable is invalid; the message names it and quotes nothing of its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An OTLP/HTTP endpoint for one *signal*; *timeout* in seconds per request."""

    signal: Signal
    url: str
    headers: tuple[tuple[str, Secret], ...] = field(repr=False)
    timeout: float

    @property
    def host(self) -> str:
        """Return the host, for messages."""
        return urlsplit(self.url).hostname or ""


def targets(environ: Mapping[str, str]) -> tuple[Target, ...]:
    """Return a target for each signal that has an endpoint in *environ*; raises TargetUnusable.

    The general endpoint is a base URL, a signal's own one is used as it is; timeouts are in milliseconds (OpenTelemetry
    protocol exporter specification).
    """
    found = []
    for signal in Signal:
        own = environ.get(f"{_PREFIX}_{signal.upper()}_ENDPOINT", "")
        base = environ.get(f"{_PREFIX}_ENDPOINT", "")
        if not own and not base:
            continue
        name = f"{_PREFIX}_{signal.upper()}_ENDPOINT" if own else f"{_PREFIX}_ENDPOINT"
        found.append(
            Target(
                signal=signal,
                url=_url(name, own or f"{base.rstrip('/')}/v1/{signal}"),
                headers=_headers(*_variable(environ, signal, "HEADERS")),
                timeout=_timeout(*_variable(environ, signal, "TIMEOUT")),
            )
        )
    return tuple(found)


def _variable(environ: Mapping[str, str], signal: Signal, what: str) -> tuple[str, str]:
    """Return name and value of the signal's own variable, or else of the general one."""
    own = f"{_PREFIX}_{signal.upper()}_{what}"
    return (own, environ[own]) if environ.get(own) else (f"{_PREFIX}_{what}", environ.get(f"{_PREFIX}_{what}", ""))


def _url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise TargetUnusable(f"{name} is no URL of the form https://HOST:PORT")
    return url


def _headers(name: str, text: str) -> tuple[tuple[str, Secret], ...]:
    """Return the headers in *text*, written as k1=v1,k2=v2 with URL escapes."""
    headers = []
    for item in filter(None, map(str.strip, text.split(","))):
        key, equals, value = item.partition("=")
        value = unquote(value.strip())
        if not equals or not key.strip().isascii() or not (value.isascii() and value.isprintable()):
            raise TargetUnusable(f"{name} is not of the form name=value,name=value")
        headers.append((key.strip(), Secret(value)))
    return tuple(headers)


def _timeout(name: str, text: str) -> float:
    if not text:
        return _DEFAULT_TIMEOUT_MILLISECONDS / 1000
    if not text.isdecimal() or not int(text):
        raise TargetUnusable(f"{name} is no number of milliseconds")
    return int(text) / 1000
