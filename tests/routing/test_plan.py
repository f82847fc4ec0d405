"""Everything about a request that needs no I/O."""

import pytest

from proxy.callers.caller import ANONYMOUS, Caller
from proxy.errors import BadRequest, CallerNotAllowed, MethodNotAllowed, NoRoute
from proxy.migration.side_cache import SideCache
from proxy.routing.plan import Plan, outbound_target
from proxy.routing.plan import plan as decide
from proxy.routing.table import RouteTable
from proxy.routing.target import parse_target
from tests.routing.support import head, key, rule


def plan(method: str, target: str, caller: Caller, table: RouteTable) -> Plan:
    """Return the plan for a request without headers, while no migration was heard of."""
    return decide(head(method, target), caller, table, SideCache(), request_id="r1", now=1000.0)


def test_a_plan_says_where_with_what_and_why() -> None:
    """All of it from the rule."""
    table = RouteTable([rule("/pay", name="payments", prefix="/api", strip_prefix="/pay")])
    it = plan("POST", "/pay/v2?x", ANONYMOUS, table)
    assert it.route.name == "payments"
    assert it.token_key == key("payments")
    assert (it.origin, it.target) == ("https://api.example:443", "/api/v2?x")
    assert it.why


@pytest.mark.parametrize(
    ("prefix", "strip", "target", "expected"),
    [
        ("", "", "/", "/"),
        ("/p", "", "/", "/p/"),
        ("", "/a", "/a", "/"),
        ("", "/a", "/a?q", "/?q"),
        ("/p", "/a", "/a?q", "/p?q"),
        ("", "/a", "/a/%41?%zz", "/%41?%zz"),
    ],
)
def test_the_outbound_target_is_prefix_plus_rest(prefix: str, strip: str, target: str, expected: str) -> None:
    """Never empty, never decoded."""
    assert outbound_target(parse_target(target), strip_prefix=strip, prefix=prefix) == expected


def test_callers_are_checked_after_the_match() -> None:
    """A path that nothing takes is 404 for everybody, 405 too; the list is by name."""
    table = RouteTable([rule("/a", "GET", callers=frozenset({"erp"}))])
    erp, other = Caller("erp", "network"), Caller("other", "network")
    assert plan("GET", "/a", erp, table).route.path == "/a"
    for caller in (other, ANONYMOUS):
        with pytest.raises(CallerNotAllowed):
            plan("GET", "/a", caller, table)
        with pytest.raises(NoRoute):
            plan("GET", "/b", caller, table)
        with pytest.raises(MethodNotAllowed):
            plan("POST", "/a", caller, table)


def test_two_readings_must_be_of_one_rule() -> None:
    """Else another server could take it for the other rule's."""
    table = RouteTable([rule("/closed"), rule("/")])
    assert plan("GET", "/closed/%41", ANONYMOUS, table).route.path == "/closed"
    for target in ("/%63losed", "/closed;x", "/close%64/a"):
        with pytest.raises(BadRequest):
            plan("GET", target, ANONYMOUS, table)


def test_absolute_form_must_name_the_rules_host() -> None:
    """By name, whatever the port."""
    table = RouteTable([rule("/a")])
    assert plan("GET", "http://API.example:8080/a", ANONYMOUS, table).target == "/a"
    with pytest.raises(NoRoute):
        plan("GET", "http://other.example/a", ANONYMOUS, table)


def test_a_remembered_plan_is_each_callers_own() -> None:
    """What one caller may do is never lent to another, nor to another method, host or query."""
    table = RouteTable([rule("/a", "GET", callers=frozenset({"erp"}))])
    erp, other = Caller("erp", "network"), Caller("other", "network")
    assert plan("GET", "/a", erp, table) is plan("GET", "/a", erp, table)
    with pytest.raises(CallerNotAllowed):
        plan("GET", "/a", other, table)
    with pytest.raises(MethodNotAllowed):
        plan("POST", "/a", erp, table)
    with pytest.raises(NoRoute):
        plan("GET", "http://other.example/a", erp, table)
    assert plan("GET", "/a?x", erp, table).target == "/a?x"


@pytest.mark.thorough
def test_plans_are_remembered_in_bounds() -> None:
    """Callers choose paths: neither their number nor their length may fill the memory."""
    table = RouteTable([rule("/")])
    for number in range(3000):
        plan("GET", f"/{number}", ANONYMOUS, table)
    plan("GET", "/" + "a" * 1000, ANONYMOUS, table)
    assert len(table.remembered) <= 1024
    assert all(len(path) < 1000 for _, path, _ in table.remembered)
