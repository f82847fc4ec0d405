"""Plain values to rules."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.routing.compile import host_header_of, origin_of, route_table, token_key
from tests.worker.values import CREDENTIAL, UPSTREAM, route, snapshot

HOSTS = [
    ("https", "api.example", 443, "https://api.example:443", "api.example"),
    ("https", "api.example", 8443, "https://api.example:8443", "api.example:8443"),
    ("http", "127.0.0.1", 80, "http://127.0.0.1:80", "127.0.0.1"),
    ("http", "127.0.0.1", 443, "http://127.0.0.1:443", "127.0.0.1:443"),
    ("https", "::1", 443, "https://[::1]:443", "[::1]"),
    ("http", "fd00::2", 8080, "http://[fd00::2]:8080", "[fd00::2]:8080"),
]


@pytest.mark.parametrize(("scheme", "host", "port", "origin", "header"), HOSTS)
def test_origin_and_host_are_spelled_as_in_urls(scheme: str, host: str, port: int, origin: str, header: str) -> None:
    """The origin always has its port, Host only where it is not the scheme's; IPv6 in brackets."""
    upstream = replace(UPSTREAM, scheme=scheme, host=host, port=port)
    assert (origin_of(upstream), host_header_of(upstream)) == (origin, header)


def test_rules_keep_their_order_and_know_their_token(tmp_path: Path) -> None:
    """One rule a row, each with the key that its audience and scope make."""
    routes = (route("b", scope="s"), route("a"))
    table = route_table(snapshot(tmp_path, 1234, routes=routes))
    assert [one.name for one in table.routes] == ["b", "a"]
    first, second = table.routes
    assert first.token_key == token_key(CREDENTIAL, audience="b", scope="s")
    assert first.token_key != second.token_key
    assert first.origin == "http://127.0.0.1:1234"


def test_a_reference_to_nothing_is_an_error(tmp_path: Path) -> None:
    """The settings refuse it before."""
    with pytest.raises(KeyError):
        route_table(snapshot(tmp_path, 1, routes=(route("a", credential="none"),)))
