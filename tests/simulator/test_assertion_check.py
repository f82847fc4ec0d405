import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulator.assertion_check import AssertionRefused, Rules, SeenIds, check_assertion, claimed_client
from proxy.simulator.clients import Client, Flavor, certificates_by_kid, thumbprint
from tests.simulator.support import Identity, claims, identity, sign

URL = "https://bank.example/oauth2/token"
RULES = Rules(audiences=frozenset({URL}), longest=300, single_use=True)


@pytest.fixture(scope="module")
def now(who: Identity) -> float:
    """A moment at which the identity's certificate is valid."""
    return who.certificate.not_valid_after_utc.timestamp() - 86400.0


def check(who: Identity, assertion: str, now: float, *, rules: Rules = RULES, seen: SeenIds | None = None) -> Client:
    """Check *assertion* as the modern endpoint does for one registered client named c."""
    client = Client(client_id="c", flavor=Flavor.MODERN, certificates=certificates_by_kid(who.pem, ["sha1-hex"]))
    return check_assertion(assertion, find={"c": client}.get, rules=rules, now=now, seen=seen or SeenIds())


def test_a_good_assertion_proves_its_client(who: Identity, now: float) -> None:
    """Everything right: the client comes back."""
    assert check(who, sign(who, claims("c", URL, now)), now).client_id == "c"


def test_aud_may_be_a_list(who: Identity, now: float) -> None:
    """A list that holds the token URL is fine (RFC 7519 4.1.3)."""
    assert check(who, sign(who, claims("c", URL, now, aud=["x", URL])), now).client_id == "c"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iss": "d"}, "same client id"),
        ({"sub": None}, "same client id"),
        ({"iss": "d", "sub": "d"}, "no registered client"),
        ({"aud": URL + "/"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"exp": None}, "exp is missing"),
        ({"exp": "soon"}, "exp is not a number"),
        ({"exp": True}, "exp is not a number"),
        ({"jti": None}, "jti is missing"),
        ({"jti": 7}, "jti is missing"),
    ],
)
def test_each_claim_is_checked(who: Identity, now: float, change: dict[str, Any], reason: str) -> None:
    """A claim that is missing, of the wrong type or wrong is refused for its own reason."""
    with pytest.raises(AssertionRefused, match=reason):
        check(who, sign(who, claims("c", URL, now, **change)), now)


@pytest.mark.parametrize(
    ("name", "offset", "fine"),
    [
        ("exp", 0, False),
        ("exp", 0.04, True),
        ("exp", 300, True),
        ("exp", 300.04, False),
        ("nbf", 0, True),
        ("nbf", 0.04, False),
        ("iat", 0, True),
        ("iat", 2, False),
        ("iat", -45, True),
    ],
)
def test_times_are_exact(who: Identity, now: float, name: str, offset: float, *, fine: bool) -> None:
    """An exp lies after now and at most 300 s ahead, nbf and iat not after now: to the hundredth of a second."""
    assertion = sign(who, claims("c", URL, now, **{name: now + offset}))

    if fine:
        assert check(who, assertion, now)
    else:
        with pytest.raises(AssertionRefused, match=name):
            check(who, assertion, now)


def test_leeway_forgives(who: Identity, now: float) -> None:
    """With leeway a clock that is a little off is forgiven."""
    rules = Rules(audiences=frozenset({URL}), longest=300, single_use=True, leeway=5)

    assert check(who, sign(who, claims("c", URL, now, nbf=now + 4, exp=now + 304)), now, rules=rules)


def test_jti_is_used_once_while_the_assertion_lives(who: Identity, now: float) -> None:
    """The same jti is refused until its assertion has expired; another client's is its own."""
    seen = SeenIds()
    check(who, sign(who, claims("c", URL, now, jti="a", exp=now + 60)), now, seen=seen)

    with pytest.raises(AssertionRefused, match="jti was seen before"):
        check(who, sign(who, claims("c", URL, now, jti="a", exp=now + 61)), now, seen=seen)

    assert not seen.used_before("d", "a", until=now + 60, now=now)
    assert check(who, sign(who, claims("c", URL, now + 61, jti="a")), now + 61, seen=seen)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"kid": None}, "kid"),
        ({"kid": "0" * 40}, "kid"),
        ({"alg": "RS512"}, "alg"),
        ({"alg": "PS256"}, "alg"),
        ({"typ": "at+jwt"}, "typ"),
    ],
)
def test_each_header_is_checked(who: Identity, now: float, header: dict[str, Any], reason: str) -> None:
    """RS256 only, a kid that names a certificate, no other type."""
    with pytest.raises(AssertionRefused, match=reason):
        check(who, sign(who, claims("c", URL, now), **header), now)


@pytest.mark.parametrize("form", ["x5t", "x5t#S256", "sha256-hex", "lower", "colons"])
def test_another_spelling_of_the_kid_is_refused(who: Identity, now: float, form: str) -> None:
    """Only the spelling that the client was registered with selects its certificate."""
    spelled = {"lower": who.kid.lower(), "colons": ":".join(who.kid[i : i + 2] for i in range(0, 40, 2))}
    kid = spelled.get(form) or thumbprint(who.certificate, form)

    with pytest.raises(AssertionRefused, match="kid"):
        check(who, sign(who, claims("c", URL, now), kid=kid), now)


def test_another_key_is_refused(who: Identity, now: float) -> None:
    """A signature by a key other than the certificate's is refused, whatever kid says."""
    stranger = identity()

    with pytest.raises(AssertionRefused, match="signature"):
        check(who, sign(stranger, claims("c", URL, now), kid=who.kid), now)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (lambda c: c.not_valid_after_utc.timestamp() + 1, "expired"),
        (lambda c: c.not_valid_before_utc.timestamp() - 1, "not valid yet"),
    ],
)
def test_a_certificate_out_of_its_time_is_refused(who: Identity, moment: Callable[[Any], float], reason: str) -> None:
    """The certificate must be valid by the simulator's clock."""
    then = moment(who.certificate)

    with pytest.raises(AssertionRefused, match=reason):
        check(who, sign(who, claims("c", URL, then)), then)


@pytest.mark.parametrize("spoil", ["{0} ", " {0}", "{0}\n", "{0}.", "{0}=", "{0}.x", "", "a.b", "a.b.c"])
def test_white_space_and_junk_are_refused(who: Identity, now: float, spoil: str) -> None:
    """Nothing but three base64url segments is read."""
    with pytest.raises(AssertionRefused):
        check(who, spoil.format(sign(who, claims("c", URL, now))), now)


def test_a_claim_that_stands_twice_is_refused(who: Identity, now: float) -> None:
    """A name twice in the claims is not silently the last one."""
    body = json.dumps(claims("c", URL, now))[:-1] + ',"aud":"x"}'
    head = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": who.kid}).encode())
    text = b".".join([head, base64.urlsafe_b64encode(body.encode()), b"AAAA"]).decode().replace("=", "")

    with pytest.raises(AssertionRefused, match="claims"):
        check(who, text, now)


def test_the_claimed_client_is_read_without_proof(who: Identity) -> None:
    """Faults are aimed by sub, and nonsense has none."""
    assert claimed_client(sign(who, claims("c", URL, 0))) == "c"
    assert claimed_client("nonsense") == ""
    assert claimed_client("e30.W10.AAAA") == ""


@given(st.text(max_size=60))
def test_any_text_is_refused_and_never_crashes(who: Identity, text: str) -> None:
    """Whatever comes as an assertion, the answer is a refusal."""
    with pytest.raises(AssertionRefused):
        check(who, text, 0.0)
    claimed_client(text)
