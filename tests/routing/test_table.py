"""Whole segments to the first rule that takes path and method."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import MethodNotAllowed, NoRoute
from proxy.routing.table import Route, RouteTable
from tests.routing.support import key, rule, side

segments = st.sampled_from(["a", "b", "c", ""])
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
rules = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "b", "*"]), max_size=3).map(lambda parts: "/" + "/".join(parts)),
        st.sampled_from([(), ("GET",), ("POST",), ("GET", "POST")]),
    ),
    max_size=6,
)


def takes(route: Route, path: str) -> bool:
    """Return whether *route* takes *path*, read from the contract without a tree."""
    wanted = [] if route.path == "/" else route.path[1:].split("/")
    given_segments = path[1:].split("/")
    return len(given_segments) >= len(wanted) and all(
        segment != "" if want == "*" else segment == want for want, segment in zip(wanted, given_segments, strict=False)
    )


@given(rules, paths, st.sampled_from(["GET", "POST", "PUT"]))
def test_the_tree_finds_what_a_list_would(specified: list[tuple[str, tuple[str, ...]]], path: str, method: str) -> None:
    """First match on path and method; 405 where only the method is missing, 404 where nothing takes the path."""
    routes = [rule(spec, *methods, name=str(number)) for number, (spec, methods) in enumerate(specified)]
    on_path = [route for route in routes if takes(route, path)]
    expected = [route for route in on_path if not route.methods or method in route.methods]
    table = RouteTable(routes)
    if expected:
        assert table.match(method, path) is expected[0]
        return
    with pytest.raises(MethodNotAllowed if on_path else NoRoute) as caught:
        table.match(method, path)
    if isinstance(caught.value, MethodNotAllowed):
        assert caught.value.allowed == tuple(sorted({name for route in on_path for name in route.methods}))


def test_its_repr_says_how_many() -> None:
    """And none of them."""
    assert repr(RouteTable([rule("/a"), rule("/b")])) == "<RouteTable of 2 rules>"


def test_a_thousand_rules_are_walked_by_segment() -> None:
    """Each is found by its own path alone."""
    table = RouteTable(rule(f"/r{number}/x") for number in range(1000))
    assert table.match("GET", "/r777/x/y").path == "/r777/x"
    with pytest.raises(NoRoute):
        table.match("GET", "/r1000/x")


def test_a_token_may_go_wherever_its_rules_send() -> None:
    """Rules with one key share one token, whose origins are those of them all."""
    own, far = side("a"), side("a", origin="https://far.example:443")
    table = RouteTable([rule("/a", own=own), rule("/b", own=far), rule("/c", own=side("c"))])

    assert table.origins() == {
        key("a"): frozenset({"https://api.example:443", "https://far.example:443"}),
        key("c"): frozenset({"https://api.example:443"}),
    }
