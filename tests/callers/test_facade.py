"""The facade: what the bank's clients send gets a token of ours, and that token proves its caller and no other."""

import base64
import hashlib
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from proxy.callers.bearer import BearerTokens
from proxy.callers.caller import Callers, Proofs
from proxy.callers.facade import _MOST_IDS, Facade, Granted, TokenRequest, TokenRequestRefused, _SeenIds
from proxy.entropy import SystemEntropy
from proxy.errors import CallerTokenInvalid, CallerUnauthenticated
from proxy.settings.worker_values import CallerValues, FacadeValues
from tests.callers.clients import ASSERTION_TYPE, CLIENT_ID, TOKEN_URL, as_values, claims, private_key, signed
from tests.callers.test_caller import proofs, values
from tests.support.clock import ManualClock

BANK_URL = "https://idag2.jpmorganchase.com/adfs/oauth2/token"
SECRET = "caller key+1%"
SECRET_CLIENT = "CC-000001-SECRET"
FORM = "application/x-www-form-urlencoded"
CALLERS = (
    values(
        "erp", facade_client_id=CLIENT_ID, networks=("10.0.0.0/8",), assertion_keys=(as_values(private_key()),),
        max_requests_per_second=3.0,
    ),
    values(
        "batch", facade_client_id=SECRET_CLIENT, api_key_sha256=(hashlib.sha256(SECRET.encode()).hexdigest(),),
    ),
    values("old", networks=("10.9.0.0/16",), api_key_sha256=(hashlib.sha256(b"old-key").hexdigest(),)),
)  # fmt: skip


class World:
    """A facade, its clock, and a client that is wrong as it is told."""

    def __init__(
        self,
        *,
        audiences: tuple[str, ...] = (),
        callers: tuple[CallerValues, ...] = CALLERS,
        hosts: tuple[str, ...] = ("payproxy.corp", "127.0.0.1", "::1", "idag2.jpmorganchase.com"),
        port: int = 8080,
    ) -> None:
        self.clock = ManualClock()
        known = Callers(callers)
        self.facade = Facade(
            FacadeValues(
                paths=("/adfs/oauth2/token", "/oauth2/token"),
                token_lifetime=3600,
                signing_key_files=(),
                accepted_assertion_audiences=audiences,
                own_hosts=hosts,
                own_port=port,
            ),
            callers,
            callers=known,
            tokens=BearerTokens((b"k" * 32,), lifetime=3600, clock=self.clock, entropy=SystemEntropy()),
            bank=frozenset({("idag2.jpmorganchase.com", 443), ("127.0.0.1", 8090)}),
            clock=self.clock,
        )

    def assertion(self, **changes: Any) -> str:
        """Return an assertion of the caller erp, with *changes* to its claims."""
        return signed(claims(self.clock.now(), **changes), private_key())

    def form(self, **changes: str | None) -> dict[str, str]:
        """Return the form of the bank's ADFS sample, with *changes*; None takes a parameter away."""
        form: dict[str, str | None] = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "resource": "JPMC:URI:RS-000000-00000-Payments-PROD",
            "client_assertion_type": ASSERTION_TYPE,
            **({} if "client_assertion" in changes else {"client_assertion": self.assertion()}),
            **changes,
        }
        return {name: value for name, value in form.items() if value is not None}

    def grant(
        self,
        form: dict[str, str] | bytes | None = None,
        *,
        brings: Proofs | None = None,
        authorization: bytes = b"",
        content_type: str = FORM,
    ) -> Granted:
        """Ask for a token."""
        form = self.form() if form is None else form
        return self.facade.grant(
            TokenRequest(
                content_type=content_type,
                authorization=authorization,
                body=form if isinstance(form, bytes) else urlencode(form).encode(),
                proofs=brings or proofs(),
            )
        )

    def refused(self, *arguments: Any, **keywords: Any) -> TokenRequestRefused:
        """Ask for a token and return why there is none."""
        with pytest.raises(TokenRequestRefused) as caught:
            self.grant(*arguments, **keywords)
        return caught.value

    def recognise(self, authorization: str, brings: Proofs | None = None) -> tuple[str, str]:
        """Return caller and proof of a request with *authorization*."""
        caller = self.facade.recognise(authorization.encode("latin-1"), brings or proofs())
        return caller.name, caller.proof


@pytest.fixture
def world() -> World:
    """Return a facade with three callers."""
    return World()


def basic(user: str, secret: str) -> bytes:
    """Return a Basic header as RFC 6749 2.3.1 has it."""
    return b"Basic " + base64.b64encode(f"{quote_plus(user)}:{quote_plus(secret)}".encode())


def test_the_adfs_dance_gets_a_token_that_proves_the_caller(world: World) -> None:
    """With an assertion; the bearer's scheme may be written in any case."""
    granted = world.grant()
    token = granted.token.reveal()

    assert (granted.caller.name, granted.caller.proof, granted.caller.rate) == ("erp", "network+assertion", 3.0)
    assert (granted.lifetime, granted.remark) == (3600, "")
    assert world.recognise(f"Bearer {token}") == ("erp", "network+token")
    assert world.recognise(f"bearer  {token}") == ("erp", "network+token")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"audience": "jpm:uri:prod:payments", "resource": None, "scope": "a b", "scopes": "c"},
        {"unknown": "é"},
    ],
    ids=str,
)
def test_what_says_where_the_banks_token_would_go_is_ignored(world: World, changes: dict[str, str | None]) -> None:
    """The modern form too; the route decides the audience."""
    assert world.grant(world.form(**changes)).caller.name == "erp"


@pytest.mark.parametrize("how", ["form", "basic", "basic and client_id"])
def test_a_secret_is_the_callers_key(world: World, how: str) -> None:
    """In the form or as Basic header, with characters that must be encoded."""
    form = {"grant_type": "client_credentials", "client_id": SECRET_CLIENT, "scope": "jpm:payments:sandbox"}
    if how == "form":
        granted = world.grant({**form, "client_secret": SECRET})
    else:
        form = form if "client_id" in how else {"grant_type": "client_credentials"}
        granted = world.grant(form, authorization=basic(SECRET_CLIENT, SECRET))

    assert (granted.caller.name, granted.caller.proof) == ("batch", "key")
    assert world.recognise(f"Bearer {granted.token.reveal()}") == ("batch", "token")


@pytest.mark.parametrize(
    "aud",
    [
        "http://payproxy.corp:8080/adfs/oauth2/token",
        "https://payproxy.corp:8080/adfs/oauth2/token/",
        "http://payproxy.corp:8080/oauth2/token",
        "https://payproxy.corp/adfs/oauth2/token",
        "HTTPS://PAYPROXY.CORP:443/adfs/oauth2/token",
        "http://payproxy.corp/adfs/oauth2/token",
        "http://[::1]:8080/adfs/oauth2/token",
        "http://127.0.0.1:8080/adfs/oauth2/token",
    ],
)
def test_an_audience_is_ours_by_our_own_names(world: World, aud: str) -> None:
    """By either scheme, since TLS may end before us, in any spelling of the host, with and without a last slash."""
    assert world.grant(world.form(client_assertion=world.assertion(aud=aud))).caller.name == "erp"


@pytest.mark.parametrize(
    "aud",
    [
        "http://someone.else.corp:8080/adfs/oauth2/token",
        "https://payproxy.corp:80/adfs/oauth2/token",
        "http://payproxy.corp:9000/adfs/oauth2/token",
        "http://payproxy.corp:8080/",
        "http://payproxy.corp:8080/adfs/oauth2/token?x",
        "http://x@payproxy.corp:8080/adfs/oauth2/token",
        "payproxy.corp:8080/adfs/oauth2/token",
        "http://payproxy.corp:80800/adfs/oauth2/token",
        "http://[payproxy.corp:8080/adfs/oauth2/token",
        "ftp://payproxy.corp:8080/adfs/oauth2/token",
        "http:///adfs/oauth2/token",
        "",
        BANK_URL,
        "http://127.0.0.1:8090/adfs/oauth2/token",
    ],
)
def test_any_other_audience_is_refused(world: World, aud: str) -> None:
    """Neither one that was made for another server passes, nor the bank's, should its name be among ours."""
    refused = world.refused(world.form(client_assertion=world.assertion(aud=aud)))

    assert (refused.error, refused.status, refused.challenge) == ("invalid_client", 401, False)
    assert "aud is neither" in refused.cause


def test_a_port_that_the_system_chose_may_be_any() -> None:
    """With `listen = "127.0.0.1:0"` nobody knows it before."""
    world = World(port=0)

    assert world.grant(world.form(client_assertion=world.assertion(aud="http://127.0.0.1:9/oauth2/token"))).token


def test_the_banks_url_is_an_audience_where_it_is_listed() -> None:
    """For clients in whose code it is fixed."""
    world = World(audiences=(BANK_URL,))

    assert world.grant(world.form(client_assertion=world.assertion(aud=BANK_URL))).caller.name == "erp"
    assert world.refused(world.form(client_assertion=world.assertion(aud=BANK_URL + "x"))).error == "invalid_client"


def test_an_assertion_that_comes_again_is_served_with_a_warning(world: World) -> None:
    """The bank's sample has one jti for all times; ids of other clients and none at all are no repetition."""
    first, second = world.grant(), world.grant()
    without = [world.grant(world.form(client_assertion=world.assertion(jti=None))) for _ in range(2)]

    assert (first.remark, [one.remark for one in without]) == ("", ["", ""])
    assert "jti has been used before" in second.remark
    assert second.token != first.token


def test_ids_are_forgotten_when_they_expire_or_are_too_many() -> None:
    """The memory is bounded, whatever callers send."""
    seen = _SeenIds()
    assert not seen.before("c", "one", until=100.0, now=0.0)
    assert seen.before("c", "one", until=100.0, now=99.0)
    assert not seen.before("d", "one", until=100.0, now=99.0)
    assert not seen.before("c", "one", until=300.0, now=100.0)
    for number in range(_MOST_IDS + 10):
        assert not seen.before("c", str(number), until=1000.0, now=500.0)
    assert len(seen._until) == _MOST_IDS
    assert seen.before("c", str(_MOST_IDS), until=1000.0, now=500.0)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"grant_type": None}, "invalid_request", "grant_type is missing"),
        ({"grant_type": "password"}, "unsupported_grant_type", "password"),
        ({"client_assertion_type": None}, "invalid_request", "client_assertion_type"),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertiontype:jwt-bearer"}, "invalid_request", "type"),
        ({"client_secret": SECRET}, "invalid_request", "more than one"),
        ({"client_id": SECRET_CLIENT}, "invalid_client", "RFC 7521"),
        ({"client_assertion": None}, "invalid_client", "neither an assertion nor"),
        ({"client_assertion": None, "client_id": None, "client_secret": SECRET}, "invalid_client", "neither"),
        (
            {"client_assertion": None, "client_id": "x\n", "client_secret": SECRET},
            "invalid_client",
            "facade_client_id x?",
        ),
        (
            {"client_assertion": None, "client_id": SECRET_CLIENT, "client_secret": "x"},
            "invalid_client",
            "caller batch",
        ),
        ({"client_assertion": None, "client_secret": SECRET}, "invalid_client", "none of the keys of caller erp"),
        ({"client_assertion": "x.y.z"}, "invalid_client", "can't be read"),
    ],
    ids=str,
)
def test_what_proves_nothing_is_refused(world: World, changes: dict[str, str | None], error: str, why: str) -> None:
    """With the error of RFC 6749 5.2; the record says what was wrong, and never a secret."""
    refused = world.refused(world.form(**changes))

    assert (refused.error, refused.challenge) == (error, False)
    assert refused.status == (401 if error == "invalid_client" else 400)
    assert why in refused.cause
    assert SECRET not in refused.cause


@pytest.mark.parametrize(
    ("authorization", "error", "why"),
    [
        (basic(SECRET_CLIENT, "x"), "invalid_client", "none of the keys"),
        (basic("nobody", SECRET), "invalid_client", "facade_client_id nobody"),
        (basic(SECRET_CLIENT, ""), "invalid_client", "neither"),
        (b"Basic !!", "invalid_client", "can't be read"),
        (b"Basic " + base64.b64encode(b"%ff:x"), "invalid_client", "UTF-8"),
        (basic("other", SECRET), "invalid_request", "client_id is not the user"),
    ],
)
def test_a_basic_header_that_proves_nothing_is_answered_with_a_challenge(
    world: World, authorization: bytes, error: str, why: str
) -> None:
    """As RFC 6749 5.2 demands of a 401 then."""
    form = {"grant_type": "client_credentials"} | ({"client_id": SECRET_CLIENT} if error == "invalid_request" else {})
    refused = world.refused(form, authorization=authorization)

    assert (refused.error, refused.challenge) == (error, error == "invalid_client")
    assert why in refused.cause
    more = world.refused(authorization=basic(SECRET_CLIENT, SECRET))
    assert (more.error, more.status) == ("invalid_request", 400)


def test_a_form_that_is_none_is_refused(world: World) -> None:
    """Another media type, a parameter twice."""
    assert world.refused(content_type="application/json").error == "invalid_request"
    assert world.refused(urlencode(world.form()).encode() + b"&grant_type=x").error == "invalid_request"


def test_the_network_of_the_caller_must_hold_for_its_assertion_and_its_token(world: World) -> None:
    """A stolen token is worth nothing elsewhere, even where another caller would be admitted."""
    refused = world.refused(brings=proofs("11.1.2.3"))
    assert (refused.error, refused.status) == ("invalid_client", 401)
    assert "caller erp: its networks" in refused.cause

    token = world.grant().token.reveal()
    with pytest.raises(CallerUnauthenticated):
        world.recognise(f"Bearer {token}", proofs("11.1.2.3"))
    with pytest.raises(CallerUnauthenticated):
        world.recognise(f"Bearer {token}", proofs("11.1.2.3", SECRET.encode()))


async def test_an_expired_or_altered_token_is_a_401(world: World) -> None:
    """Also where the caller is known otherwise: its client mints anew on a 401 only."""
    token = world.grant().token.reveal()
    await world.clock.advance(3600)

    for bearer in (token, token[:-2]):
        for brings in (proofs(), proofs("10.9.0.1", b"old-key")):
            with pytest.raises(CallerTokenInvalid) as caught:
                world.recognise(f"Bearer {bearer}", brings)
            assert caught.value.status == 401


def test_the_bearer_of_another_changes_nothing_for_a_caller_that_is_known(world: World) -> None:
    """An old system that goes on sending the bank's token works as before; one that is not known gets a 401."""
    bank = "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.e30.AAAA"

    assert world.recognise(bank, proofs("10.9.0.1", b"old-key")) == ("old", "network+key")
    assert world.recognise("", proofs("10.9.0.1", b"old-key")) == ("old", "network+key")
    assert world.recognise("Basic eDp5", proofs("10.9.0.1", b"old-key")) == ("old", "network+key")
    with pytest.raises(CallerTokenInvalid):
        world.recognise(bank, proofs("10.1.2.3"))
    for none in ("", "Basic eDp5", "Bearerx y", "Digest x"):
        with pytest.raises(CallerUnauthenticated):
            world.recognise(none, proofs("10.1.2.3"))


def test_a_token_of_a_caller_that_is_gone_is_a_401(world: World) -> None:
    """After a reload that took the caller away, or its client id."""
    token = world.grant().token.reveal()
    for left in (CALLERS[1:], (values("erp", networks=("10.0.0.0/8",)),)):
        with pytest.raises(CallerTokenInvalid):
            World(callers=left).recognise(f"Bearer {token}")


@pytest.mark.parametrize("how", ["form", "Basic", "Basic, not form-encoded"])
def test_a_key_in_the_place_of_the_client_id_is_not_recorded(world: World, how: str) -> None:
    """Who swaps the two is told so."""
    form = world.form(client_assertion=None, client_assertion_type=None, client_id=None)
    if how == "form":
        refused = world.refused({**form, "client_id": SECRET, "client_secret": SECRET_CLIENT})
    elif how == "Basic":
        refused = world.refused(form, authorization=basic(SECRET, SECRET_CLIENT))
    else:
        plain = base64.b64encode(f"{SECRET}:{SECRET_CLIENT}".encode())
        refused = world.refused(form, authorization=b"Basic " + plain)

    assert (refused.error, refused.status) == ("invalid_client", 401)
    assert refused.cause == "the client id is the key of caller batch: were id and secret swapped?"


def test_nothing_secret_shows(world: World) -> None:
    """In the repr of what was granted, and of the facade."""
    granted = world.grant()

    assert granted.token.reveal() not in repr(granted)
    assert repr(world.facade) == "<Facade of 2 clients at /adfs/oauth2/token, /oauth2/token>"
    assert TOKEN_URL.endswith("/adfs/oauth2/token")
