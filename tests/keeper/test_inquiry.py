import pytest

from proxy.keeper.inquiry import About, CantAsk, side_of, target_of
from proxy.migration.side import Policy
from proxy.routing.table import Route, RouteMigration
from tests.routing.support import rule, side

PATH = "/payment/v2/payments?requestId={Request-Id}"


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("r-1", "r-1"),
        ("a/../b", "a%2F..%2Fb"),
        ("a&requestId=b#c?d", "a%26requestId%3Db%23c%3Fd"),
        ("a b+c%2F", "a%20b%2Bc%252F"),
        ("{Request-Id}", "%7BRequest-Id%7D"),
    ],
)
def test_a_value_stays_one_value(value: str, target: str) -> None:
    """No caller's header can add a parameter or change the path."""
    assert target_of(PATH, {"request-id": value}) == f"/payment/v2/payments?requestId={target}"


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ({}, "had no Request-Id"),
        ({"merchant-id": "m"}, "had no Request-Id"),
        ({"Request-Id": "4111…11#0a1b2c3d"}, "masked"),
        ({"Request-Id": "x-4111…11#0a1b2c3d-y"}, "masked"),
        ({"Request-Id": "abc…"}, "cut off"),
        ({"Request-Id": "a" * 257}, "too long"),
        ({"Request-Id": "ä"}, "plain ASCII"),
        ({"Request-Id": "a, b"}, "more than once"),
    ],
)
def test_a_value_that_is_not_the_callers_is_not_asked(index: dict[str, str], why: str) -> None:
    """The bank would not know it, and "not found" would be wrong."""
    with pytest.raises(CantAsk, match=why) as caught:
        target_of(PATH, index)
    assert "4111" not in str(caught.value)


LEGACY, MODERN = side("old", upstream="old-bank"), side("new")


def migrated() -> Route:
    """Return a rule whose two sides differ in upstream and audience."""
    policy = Policy(name="m", sticky="caller", methods=frozenset(), pinned={}, fallback=True)
    return rule("/p", own=MODERN, migration=RouteMigration(policy=policy, legacy=LEGACY, modern=MODERN))


def about(side_name: str, upstream: str, audience: str) -> About:
    """Return a request that went to *upstream* with a token for *audience*."""
    return About(
        id="i", route="p", environment="mock", upstream=upstream, credential="login", audience=audience,
        side=side_name, index={},
    )  # fmt: skip


def test_it_is_asked_by_the_side_that_carried_it() -> None:
    """Whatever the weight is now, and also if the migration came later or has ended."""
    assert side_of(about("legacy", "old-bank", "old"), migrated()) is LEGACY
    assert side_of(about("modern", "bank", "new"), migrated()) is MODERN
    assert side_of(about("", "old-bank", "old"), migrated()) is LEGACY
    assert side_of(about("modern", "bank", "new"), rule("/p", own=MODERN)) is MODERN


@pytest.mark.parametrize(
    ("request_", "route"),
    [
        (about("legacy", "old-bank", "old"), rule("/p", own=MODERN)),
        (about("legacy", "bank", "new"), migrated()),
        (about("modern", "bank", "other"), migrated()),
        (about("", "other-bank", "new"), rule("/p", own=MODERN)),
    ],
)
def test_no_other_side_is_asked(request_: About, route: Route) -> None:
    """It would say that it has no such payment."""
    with pytest.raises(CantAsk, match="no such side any more"):
        side_of(request_, route)
