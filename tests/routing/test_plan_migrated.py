"""Plans of rules that move from one credential to another."""

from collections.abc import Sequence
from typing import Any

import pytest

from proxy.callers.caller import ANONYMOUS, Caller
from proxy.errors import NoRoute, SideUnknown
from proxy.migration.former import former_of
from proxy.migration.pin import PIN_SECONDS, RetryPin, retry_digest
from proxy.migration.side import Policy, Side
from proxy.migration.side_cache import SideCache
from proxy.migration.side_settings import SideSettings
from proxy.routing.plan import Plan
from proxy.routing.plan import plan as decide
from proxy.routing.table import RouteMigration, RouteTable
from tests.routing.support import head, key, rule, side

NOW = 1_700_000_000.0
ERP = Caller("erp", "key")
LEGACY = side("old", prefix="/adfs")
MODERN = side(
    "new",
    upstream="modern-bank",
    upstream_host="modern.example",
    host_header="modern.example:8443",
    origin="https://modern.example:8443",
)
IDEMPOTENT = (b"Idempotency-Key", b"abc")


def table(**policy: Any) -> RouteTable:
    """Return rules of which one is migrated from LEGACY to MODERN by *policy*."""
    values: dict[str, Any] = {
        "name": "payments",
        "sticky": "caller",
        "methods": frozenset(),
        "pinned": {},
        "fallback": True,
    }
    migration = RouteMigration(policy=Policy(**{**values, **policy}), legacy=LEGACY, modern=MODERN)
    return RouteTable([rule("/pay", own=LEGACY, strip_prefix="/pay", migration=migration), rule("/other")])


def board(
    weight: int, *pins: tuple[str, str, str], readable: bool = True, version: int = 1, former: Sequence[Any] = ()
) -> SideCache:
    """Return a board with the weight of payments and *pins*: digest, side, upstream."""
    made = SideCache()
    state = SideSettings(weight, version, ("held",), former_of(former))
    made.set_states({"payments": state}, readable=readable)
    made.add_pins({digest: RetryPin(Side(way), upstream, NOW + PIN_SECONDS) for digest, way, upstream in pins}, NOW)
    return made


def plan(
    rules: RouteTable,
    known: SideCache,
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    target: str = "/pay/v2",
    caller: Caller = ERP,
    request_id: str = "r1",
) -> Plan:
    """Return the plan for a request."""
    return decide(head(method, target, *headers), caller, rules, known, request_id=request_id, now=NOW)


def test_each_side_has_its_token_host_path_and_first_bytes() -> None:
    """All that goes out is of one side."""
    rules = table()
    old = plan(rules, board(0))
    assert (old.side, old.way, old.token_key) == ("legacy", LEGACY, key("old"))
    assert (old.origin, old.target) == ("https://api.example:443", "/adfs/v2")
    assert old.start == b"POST /adfs/v2 HTTP/1.1\r\nHost: api.example"
    assert old.fallback is None

    new = plan(rules, board(100), target="/pay/v2?page=2")
    assert (new.side, new.way, new.token_key) == ("modern", MODERN, key("new"))
    assert (new.origin, new.target) == ("https://modern.example:8443", "/v2?page=2")
    assert new.start == b"POST /v2?page=2 HTTP/1.1\r\nHost: modern.example:8443"
    assert (old.why, new.why) == ("weight 0", "weight 100")


def test_a_modern_plan_has_legacy_to_fall_back_on() -> None:
    """It is a whole plan for legacy, and says why it is there; with fallback = false there is none."""
    made = plan(table(), board(100), IDEMPOTENT)
    assert made.fallback is not None
    assert (made.fallback.side, made.fallback.way, made.fallback.origin) == ("legacy", LEGACY, LEGACY.origin)
    assert made.fallback.start == b"POST /adfs/v2 HTTP/1.1\r\nHost: api.example"
    assert made.fallback.fallback is None
    assert made.fallback.keyed == made.keyed is not None
    assert "weight 100" in made.fallback.why

    assert plan(table(fallback=False), board(100)).fallback is None


def test_a_rule_without_migration_has_no_side() -> None:
    """It is the route's own way, whatever the weights."""
    made = plan(table(), board(100), IDEMPOTENT, target="/other")
    assert (made.side, made.fallback, made.keyed) == ("", None, None)
    assert made.start == b"POST /other HTTP/1.1\r\nHost: api.example"


def test_a_changed_weight_is_followed_at_once() -> None:
    """What is remembered of a migrated rule is not its side."""
    rules, known = table(), board(0)
    for weight, expected in ((0, "legacy"), (100, "modern"), (100, "modern"), (0, "legacy")):
        known.set_states({"payments": SideSettings(weight, 2)}, readable=True)
        assert plan(rules, known).side == expected
        assert plan(rules, known, target="/pay/v2?q").side == expected


def test_the_guard_holds_a_caller_at_once() -> None:
    """Also one whose plan was made a moment ago."""
    rules, known, held = table(), board(100), Caller("held", "key")
    assert plan(rules, known, caller=held).side == "legacy"
    known.set_states({"payments": SideSettings(100, 2)}, readable=True)
    assert plan(rules, known, caller=held).side == "modern"


def test_callers_are_spread_and_stay() -> None:
    """The same caller has the same side on every path, in every table."""
    known = board(50)
    callers = [Caller(f"c{at}", "key") for at in range(40)]
    first = [plan(table(), known, caller=caller).side for caller in callers]
    rules = table()
    assert [plan(rules, known, caller=caller, target="/pay/x?y").side for caller in callers] == first
    assert set(first) == {"legacy", "modern"}


def test_the_sticky_header_is_read_however_it_is_spelled() -> None:
    """By its name in any case; an empty one is none."""
    rules, known = table(sticky="header:X-Batch"), board(50)
    sides = {plan(rules, known, (b"x-BATCH", b"%d" % at)).side for at in range(40)}
    assert sides == {"legacy", "modern"}
    for headers in ((), ((b"X-Batch", b""),)):
        made = plan(rules, known, *headers)
        assert made.side == "legacy"
        assert "no X-Batch" in made.why
    assert plan(rules, board(100)).side == "modern"


def test_single_requests_are_spread_by_their_id() -> None:
    """Where sticky is request, one caller has both sides; a method that is not listed keeps to its caller's."""
    rules, known = table(sticky="request", methods=frozenset({"GET"})), board(50)
    gets = {plan(rules, known, method="GET", request_id=f"r{at}").side for at in range(40)}
    posts = {plan(rules, known, method="POST", request_id=f"r{at}").side for at in range(40)}
    assert gets == {"legacy", "modern"}
    assert posts == {plan(table(), known).side}


@pytest.mark.parametrize(("method", "named"), [("POST", True), ("PATCH", True), ("DELETE", True), ("GET", False)])
def test_what_can_be_done_twice_is_named_for_a_retry(method: str, *, named: bool) -> None:
    """By migration, caller and key; a request that changes nothing needs no name, nor does one without a key."""
    rules, known = table(), board(50)
    expected = retry_digest("payments", "erp", "abc") if named else ""
    keyed = plan(rules, known, IDEMPOTENT, method=method).keyed
    assert (keyed.digest if keyed else "") == expected
    assert plan(rules, known, method=method).keyed is None


@pytest.mark.parametrize(("side", "upstream", "weight"), [("legacy", "bank", 100), ("modern", "modern-bank", 0)])
def test_a_retry_goes_where_its_first_try_went(side: str, upstream: str, weight: int) -> None:
    """Whatever the weight is now; and a caller's pin does not carry over to another caller, nor to another key."""
    known = board(weight, (retry_digest("payments", "erp", "abc"), side, upstream))
    rules = table(pinned={"erp": Side.LEGACY if side == "modern" else Side.MODERN})
    made = plan(rules, known, IDEMPOTENT)
    assert made.side == side
    assert "earlier try" in made.why
    others = [
        plan(table(), known, IDEMPOTENT, caller=Caller("crm", "key")),
        plan(table(), known, (b"Idempotency-Key", b"abd")),
        plan(table(), known),
        plan(table(), known, IDEMPOTENT, method="GET"),
    ]
    assert {one.side for one in others} == {"modern" if weight else "legacy"}


def test_a_retry_on_modern_never_falls_back() -> None:
    """Its first try may be known under modern's client id: legacy could do it a second time."""
    known = board(100, (retry_digest("payments", "erp", "abc"), "modern", "modern-bank"))
    made = plan(table(), known, IDEMPOTENT)
    assert (made.side, made.fallback) == ("modern", None)
    assert plan(table(), known, (b"Idempotency-Key", b"new")).fallback is not None


def test_a_pin_that_has_ended_is_none() -> None:
    """After 24 hours the bank does not know the key any more either."""
    known = board(100, (retry_digest("payments", "erp", "abc"), "legacy", "bank"))
    late = decide(head("POST", "/pay/v2", IDEMPOTENT), ERP, table(), known, request_id="r", now=NOW + PIN_SECONDS)
    assert late.side == "modern"


@pytest.mark.parametrize(("side", "upstream"), [("legacy", "other-bank"), ("modern", "bank")])
def test_a_pin_to_what_is_gone_is_refused(side: str, upstream: str) -> None:
    """The first try went to an upstream that the side has no more: nobody can tell what happened there."""
    known = board(0, (retry_digest("payments", "erp", "abc"), side, upstream))
    with pytest.raises(SideUnknown) as caught:
        plan(table(), known, IDEMPOTENT)
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (503, "side_unknown", True)
    assert caught.value.retry_after
    assert upstream in caught.value.cause
    assert upstream not in caught.value.detail


def test_while_pins_cannot_be_read_a_retry_could_be_a_second_payment() -> None:
    """What has a key and changes something is refused where its side was another a day ago; all else is served."""
    left = [[0 if plan(table(), board(50)).side == "modern" else 100, "", NOW - 3600, True]]
    blind, rules = board(50, readable=False, former=left), table()
    with pytest.raises(SideUnknown):
        plan(rules, blind, IDEMPOTENT)
    with pytest.raises(SideUnknown):
        plan(rules, blind, (b"requestId", b"r"), target="/pay/v2?q")
    assert plan(rules, blind).side
    assert plan(rules, blind, IDEMPOTENT, method="GET").side
    assert plan(rules, blind, IDEMPOTENT, target="/other").side == ""
    assert plan(rules, board(0, readable=False, version=0), IDEMPOTENT).side == "legacy"
    assert plan(rules, board(50, readable=False), IDEMPOTENT).side
    gone = [[one[0], one[1], NOW - 25 * 3600, True] for one in left]
    assert plan(rules, board(50, readable=False, former=gone), IDEMPOTENT).side
    assert plan(rules, board(50, former=left), IDEMPOTENT).side
    assert plan(rules, board(0, version=2), IDEMPOTENT).side == "legacy"


def test_a_pin_that_is_known_serves_while_others_cannot_be_read() -> None:
    """What is known is known."""
    blind = board(0, (retry_digest("payments", "erp", "abc"), "modern", "modern-bank"), readable=False)
    assert plan(table(), blind, IDEMPOTENT).side == "modern"


def test_before_the_keeper_has_spoken_a_retry_waits() -> None:
    """A worker that was just started knows of no move and of no pin."""
    with pytest.raises(SideUnknown):
        plan(table(), SideCache(), IDEMPOTENT)
    assert plan(table(), SideCache()).side == "legacy"


def test_absolute_form_may_name_either_sides_host() -> None:
    """The caller does not know where its rule sends now; another host is refused."""
    for host in ("api.example", "modern.example"):
        assert plan(table(), board(100), target=f"http://{host}/pay/v2").origin == MODERN.origin
    with pytest.raises(NoRoute):
        plan(table(), board(100), target="http://other.example/pay/v2")


def test_who_is_not_known_is_one_caller() -> None:
    """Without callers, everyone moves as one."""
    made = plan(table(), board(50), caller=ANONYMOUS)
    assert made.side == plan(table(), board(50), caller=ANONYMOUS, target="/pay/other").side


def test_what_is_remembered_of_both_sides_is_bounded() -> None:
    """Callers choose paths here too."""
    rules, known = table(), board(50)
    for number in range(3000):
        plan(rules, known, target=f"/pay/{number}")
    assert len(rules.remembered_sides) <= 1024
    assert not rules.remembered
