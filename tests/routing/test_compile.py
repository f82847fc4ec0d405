"""Plain values to rules."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.migration.side import Policy, Side
from proxy.routing.compile import host_header_of, origin_of, route_table, token_key
from proxy.settings.worker_values import MigrationValues, SideValues
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
    assert first.own.token_key == token_key(CREDENTIAL, audience="b", scope="s")
    assert first.own.token_key != second.own.token_key
    assert first.own.origin == "http://127.0.0.1:1234"


MOVE = MigrationValues(
    name="move",
    routes=("a",),
    legacy=SideValues(credential="login", audience="a", scope="", upstream=""),
    modern=SideValues(credential="new", audience="m", scope="s", upstream="modern"),
    sticky="header:X",
    methods=("GET",),
    pinned_legacy=("erp",),
    pinned_modern=("crm",),
    fallback=False,
)


def test_a_migrated_rule_knows_both_sides(tmp_path: Path) -> None:
    """An upstream that a side does not name is the rule's own; rules that the migration does not name have one side."""
    values = snapshot(tmp_path, 1234, routes=(route("a"), route("b")))
    modern = replace(UPSTREAM, name="modern", scheme="https", host="modern.example", port=443)
    new = replace(CREDENTIAL, name="new", client_id="n")
    values = replace(values, upstreams=(*values.upstreams, modern), credentials=(CREDENTIAL, new), migrations=(MOVE,))
    table = route_table(values)
    moved, other = table.routes

    assert moved.migration is not None
    assert moved.migration.legacy == moved.own
    assert moved.migration.modern.token_key == token_key(new, audience="m", scope="s")
    assert (moved.migration.modern.upstream, moved.migration.modern.origin) == ("modern", "https://modern.example:443")
    assert moved.migration.policy == Policy(
        name="move",
        sticky="header:X",
        methods=frozenset({"GET"}),
        pinned={"erp": Side.LEGACY, "crm": Side.MODERN},
        fallback=False,
        sides="login@ to new@modern",
    )
    assert other.migration is None
    assert table.origins() == {
        moved.own.token_key: frozenset({"http://127.0.0.1:1234"}),
        moved.migration.modern.token_key: frozenset({"https://modern.example:443"}),
        other.own.token_key: frozenset({"http://127.0.0.1:1234"}),
    }


def test_a_reference_to_nothing_is_an_error(tmp_path: Path) -> None:
    """The settings refuse it before."""
    with pytest.raises(KeyError):
        route_table(snapshot(tmp_path, 1, routes=(route("a", credential="none"),)))
