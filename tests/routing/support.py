"""Rules and heads for tests of pure functions."""

from typing import Any

from proxy.credentials.token_key import TokenKey
from proxy.routing.headers import HeaderLine
from proxy.routing.request_head import HeadLimits, RawHead, RequestHead
from proxy.routing.table import Route, RouteSide


def key(audience: str) -> TokenKey:
    """Return the token key of *audience*."""
    return TokenKey(
        token_url="https://login.example/token",
        client_id="c",
        auth_method="client_secret_basic",
        audience_parameter="audience",
        audience=audience,
        scope="",
        credential="login",
    )


def rule(path: str, *methods: str, name: str = "", **changes: Any) -> Route:
    """Return a rule for *path*."""
    values: dict[str, Any] = {
        "name": name or path,
        "path": path,
        "methods": frozenset(methods),
        "callers": frozenset(),
        "own": side(name or path, **{one: changes.pop(one) for one in ("prefix",) if one in changes}),
        "strip_prefix": "",
        "replay_limit": 1000,
        "remint_on": (),
    }
    return Route(**{**values, **changes})


def side(audience: str, **changes: Any) -> RouteSide:
    """Return a way to https://api.example with a token for *audience*."""
    values: dict[str, Any] = {
        "upstream": "bank",
        "upstream_host": "api.example",
        "host_header": "api.example",
        "origin": "https://api.example:443",
        "prefix": "",
        "token_key": key(audience),
    }
    return RouteSide(**{**values, **changes})


def head(method: str, target: str, *headers: tuple[bytes, bytes]) -> RequestHead:
    """Return an understood head with *headers*."""
    return RequestHead.of(raw(*headers, method=method, target=target), limits())


def limits(**changes: Any) -> HeadLimits:
    """Return limits that let any Host in."""
    values: dict[str, Any] = {
        "max_header_bytes": 65536,
        "hosts": frozenset(),
        "allow_browsers": False,
    }
    return HeadLimits(**{**values, **changes})


def raw(*headers: tuple[bytes, bytes], host: bool = True, **changes: Any) -> RawHead:
    """Return a head with *headers* behind a Host."""
    pairs = ((b"Host", b"localhost"), *headers) if host else headers
    lines = [HeaderLine(name, value, None) for name, value in pairs]
    framing = {name: changes.pop(name) for name in ("content_length", "chunked", "closes") if name in changes}
    values: dict[str, Any] = {"method": "GET", "target": "/a", "version": (1, 1), "headers": lines}
    found = RawHead(**{**values, **changes})
    for name, value in framing.items():
        setattr(found, name, value)
    return found


def pairs(lines: list[HeaderLine]) -> list[tuple[bytes, bytes]]:
    """Return names and values."""
    return [(line.name, line.value) for line in lines]
