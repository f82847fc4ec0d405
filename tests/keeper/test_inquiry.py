from dataclasses import replace
from typing import Any

import pytest

from proxy.keeper.inquiry import About, CantAsk, side_of, target_of
from proxy.keeper.inquiry import about as about_of
from proxy.migration.side import Policy
from proxy.routing.table import Route, RouteMigration, RouteSide
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


LEGACY, MODERN = side("old", upstream="old-bank", origin="https://old.example:443"), side("new", prefix="/gp")


def migrated() -> Route:
    """Return a rule whose two sides differ in upstream, URL and audience."""
    policy = Policy(name="m", sticky="caller", methods=frozenset(), pinned={}, fallback=True)
    return rule("/p", own=MODERN, migration=RouteMigration(policy=policy, legacy=LEGACY, modern=MODERN))


def about(sent_by: RouteSide, **changes: str) -> About:
    """Return a request that was sent by *sent_by*."""
    values: dict[str, str] = {
        "upstream": sent_by.upstream, "upstream_url": sent_by.url, "credential": sent_by.token_key.credential,
        "client_digest": sent_by.token_key.client_digest, "side": "",
    }  # fmt: skip
    return About(id="i", route="p", environment="mock", index={}, **values | changes)


def changed(side: RouteSide, **changes: Any) -> RouteSide:
    """Return *side* with *changes* of its token key."""
    return replace(side, token_key=replace(side.token_key, **changes))


def test_it_is_asked_by_the_side_that_carried_it() -> None:
    """Whatever the weight is now, and also if the migration came later or has ended."""
    assert side_of(about(LEGACY, side="legacy"), migrated()) is LEGACY
    assert side_of(about(MODERN, side="modern"), migrated()) is MODERN
    assert side_of(about(LEGACY), migrated()) is LEGACY
    assert side_of(about(MODERN, side="modern"), rule("/p", own=MODERN)) is MODERN


def test_the_same_client_at_the_same_bank_may_ask() -> None:
    """Under other names, or with another kind of proof; of two such sides the one that has the names is taken."""
    renamed = changed(replace(MODERN, upstream="bank-2"), credential="login-2")
    by_key = changed(MODERN, auth_method="private_key_jwt", credential="login-3")
    route = rule("/p", own=renamed)
    policy = Policy(name="m", sticky="caller", methods=frozenset(), pinned={}, fallback=True)
    twice = replace(route, migration=RouteMigration(policy=policy, legacy=renamed, modern=by_key))

    assert side_of(about(MODERN), route) is renamed
    assert side_of(about(by_key), twice) is by_key
    assert side_of(about(renamed), twice) is renamed


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (
            replace(MODERN, origin="https://other.example:443"),
            "sends to https://other.example:443/gp; another",
        ),
        (replace(MODERN, prefix=""), "sends to https://api.example:443; another"),
        (changed(MODERN, client_id="d"), "as another client"),
        (changed(MODERN, token_url="https://login.example/other"), "as another client"),
        (changed(MODERN, audience="other"), "as another client"),
        (changed(MODERN, audience_parameter="resource"), "as another client"),
        (changed(MODERN, scope="read"), "as another client"),
        (changed(MODERN, extra_parameters=(("realm", "x"),)), "as another client"),
        (changed(MODERN, client_id="d", credential="other"), "as the client of credential login, .* has other there"),
        (LEGACY, "sends to https://old.example:443; another"),
    ],
)
def test_nobody_else_is_asked(now: RouteSide, why: str) -> None:
    """It would say that it has no such payment."""
    with pytest.raises(CantAsk, match=why) as caught:
        side_of(about(MODERN), rule("/p", own=now))
    assert "Ask by hand" in str(caught.value)


@pytest.mark.parametrize("member", ["upstream_url", "client_digest"])
def test_a_record_that_does_not_say_where_it_was_sent_is_not_asked_about(member: str) -> None:
    """It is of an earlier version; nobody knows what the names meant then."""
    with pytest.raises(CantAsk, match="an earlier version of payproxy wrote its record"):
        side_of(about(MODERN, **{member: ""}), rule("/p", own=MODERN))


def test_the_record_of_an_earlier_version_can_be_read() -> None:
    """So that it is said why the bank is not asked about it."""
    names = ("id", "route", "environment", "upstream", "credential", "side")

    read = about_of({**dict.fromkeys(names, "x"), "index": {}})

    assert (read.upstream_url, read.client_digest) == ("", "")
