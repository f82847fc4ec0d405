from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import jwt
import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import (
    ADFS_CLIENT_ID,
    AUDIENCES,
    JWT_CLIENT_ID,
    MOCK_CLIENT_ID,
    MOCK_CLIENT_SECRET,
    MOCK_SCOPE,
    RESOURCES,
    thumbprint,
)
from proxy.simulator.server import Bank, TlsFiles, simulator
from proxy.simulator.token_endpoints import ADFS_PATH, MOCK_PATH, MODERN_PATH
from tests.simulator.support import Identity, adfs_form, ask, basic, identity, modern_form, tls_client

GRANT = {"grant_type": "client_credentials"}


async def test_mock_gives_an_opaque_token_for_basic(bank: Bank, session: aiohttp.ClientSession) -> None:
    """HTTP Basic gives an opaque Bearer token for 3599 s with the default scope, not to be cached."""
    status, value, response = await ask(session, bank.url + MOCK_PATH, GRANT, basic())

    assert status == 200
    assert (value["token_type"], value["expires_in"], value["scope"]) == ("Bearer", 3599, MOCK_SCOPE)
    assert "." not in value["access_token"]
    assert response.headers["Cache-Control"] == "no-store"
    assert bank.world.mint_count(MOCK_CLIENT_ID, "") == 1


async def test_mock_takes_the_secret_in_the_form(bank: Bank, session: aiohttp.ClientSession) -> None:
    """client_secret_post works as well, and a known scope can be asked for."""
    form = {**GRANT, "client_id": MOCK_CLIENT_ID, "client_secret": MOCK_CLIENT_SECRET, "scope": MOCK_SCOPE}

    status, value, _ = await ask(session, bank.url + MOCK_PATH, form)

    assert (status, value["scope"]) == (200, MOCK_SCOPE)


async def test_mock_refuses_two_methods_at_once(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Basic and a secret in the form together are an invalid request (RFC 6749 2.3)."""
    form = {**GRANT, "client_id": MOCK_CLIENT_ID, "client_secret": MOCK_CLIENT_SECRET}

    status, value, _ = await ask(session, bank.url + MOCK_PATH, form, basic())

    assert (status, value["error"]) == (400, "invalid_request")


async def test_mock_decodes_both_parts_of_basic(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Id and secret are form-encoded before base64 (RFC 6749 2.3.1), so a colon or plus in them survives."""
    bank.world.register_secret_client("a:b c", "s+e%c:r&t")

    encoded, _, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic(quote_plus("a:b c"), quote_plus("s+e%c:r&t")))
    raw, _, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic("a:b c", "s+e%c:r&t"))

    assert (encoded, raw) == (200, 401)


async def test_mock_gives_jwts_to_clients_that_want_them(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A client may be registered for JWT access tokens."""
    bank.world.register_secret_client("jwt-mock", "secret", jwt_tokens=True)

    _, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic("jwt-mock", "secret"))

    assert jwt.decode(value["access_token"], options={"verify_signature": False})["sub"] == "jwt-mock"


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        (GRANT, basic(secret="wrong"), 401, "invalid_client"),
        (GRANT, basic("nobody"), 401, "invalid_client"),
        (GRANT, {"Authorization": "Basic %%%"}, 401, "invalid_client"),
        (GRANT, {}, 401, "invalid_client"),
        ({**GRANT, "scope": "other"}, basic(), 400, "invalid_scope"),
        ({"grant_type": "password"}, basic(), 400, "unsupported_grant_type"),
        ({"scope": MOCK_SCOPE}, basic(), 400, "invalid_request"),
        (GRANT, {**basic(), "Content-Type": "application/json"}, 400, "invalid_request"),
        ("grant_type=client_credentials&scope=a&scope=a", basic(), 400, "invalid_request"),
        ("grant_type", basic(), 400, "invalid_request"),
    ],
)
async def test_mock_refuses_as_the_rfc_says(
    bank: Bank, session: aiohttp.ClientSession, *, form: object, headers: dict[str, str], status: int, error: str
) -> None:
    """Each mistake has its error code (RFC 6749 5.2), and nothing is minted."""
    got, value, _ = await ask(session, bank.url + MOCK_PATH, form, headers)

    assert (got, value["error"]) == (status, error)
    assert bank.world.mint_count() == 0
    assert sum(bank.world.refusals.values()) == 1


async def test_a_refused_basic_login_is_challenged(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A client that tried the Authorization header is told so by WWW-Authenticate, others are not."""
    _, _, tried = await ask(session, bank.url + MOCK_PATH, GRANT, basic(secret="wrong"))
    _, _, without = await ask(session, bank.url + MOCK_PATH, {**GRANT, "client_id": "a", "client_secret": "b"})

    assert tried.headers["WWW-Authenticate"].startswith("Basic")
    assert "WWW-Authenticate" not in without.headers


async def test_only_post_is_allowed(bank: Bank, session: aiohttp.ClientSession) -> None:
    """GET at a token endpoint is 405."""
    async with session.get(bank.url + MODERN_PATH) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_modern_mints_an_es512_token_with_another_audience(
    bank: Bank, session: aiohttp.ClientSession, who: Identity
) -> None:
    """The modern endpoint gives 8 h, type Bearer, and a JWT whose aud is not the audience asked for."""
    status, value, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who))

    assert (status, value["token_type"], value["expires_in"]) == (200, "Bearer", 28800)
    assert jwt.get_unverified_header(value["access_token"])["alg"] == "ES512"
    granted = jwt.decode(value["access_token"], options={"verify_signature": False})
    assert granted["aud"] == "jpmc:uri:prod:payments:commerce"
    assert granted["exp"] - granted["iat"] == 28800
    assert bank.world.mint_count(JWT_CLIENT_ID, AUDIENCES["payments"]) == 1


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"audience": ""}, 400, "invalid_request"),
        ({"audience": "jpm:uri:prod:unknown"}, 400, "invalid_target"),
        ({"scope": "other:scope"}, 400, "invalid_scope"),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertiontype:jwt-bearer"}, 400, "invalid_request"),
        ({"client_secret": "x"}, 400, "invalid_request"),
        ({"client_id": "somebody-else"}, 401, "invalid_client"),
        ({"client_assertion": ""}, 401, "invalid_client"),
    ],
)
async def test_modern_refuses_as_the_rfc_says(
    bank: Bank, session: aiohttp.ClientSession, *, who: Identity, change: dict[str, str], status: int, error: str
) -> None:
    """Audience, scope, assertion type (the SEED page misspells it) and one way of authentication are checked."""
    got, value, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who) | change)

    assert (got, value["error"]) == (status, error)


async def test_modern_keeps_the_reason_to_itself(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A defect of the assertion is invalid_client for the client; the reason is in the world only."""
    form = modern_form(bank, who, aud="https://login.jpmorgan.com/oauth2/token")

    status, value, _ = await ask(session, bank.url + MODERN_PATH, form)

    assert (status, value) == (401, {"error": "invalid_client", "error_description": "Client authentication failed"})
    assert bank.world.seen(MODERN_PATH)[0].note == "aud is not this token endpoint"


async def test_modern_accepts_a_configured_audience(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A client may be registered with a further aud, as when the token URL is reached by another name."""
    url = "https://login.jpmorgan.com/oauth2/token"
    bank.world.register_jwt_client(JWT_CLIENT_ID, who.pem, assertion_audiences=[url])

    status, _, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who, aud=url))

    assert status == 200


async def test_modern_refuses_an_audience_of_others(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """An audience that exists but was not granted to this client is unauthorized_client."""
    bank.world.register_jwt_client("other", identity().pem, audiences=["jpm:uri:prod:other"])

    status, value, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who, audience="jpm:uri:prod:other"))

    assert (status, value["error"]) == (400, "unauthorized_client")


async def test_modern_takes_each_assertion_once(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """The same jti again is refused."""
    form = modern_form(bank, who)

    first, _, _ = await ask(session, bank.url + MODERN_PATH, form)
    second, _, _ = await ask(session, bank.url + MODERN_PATH, form)

    assert (first, second) == (200, 401)
    assert bank.world.seen(MODERN_PATH)[1].note == "jti was seen before"


async def test_modern_takes_a_registered_tls_certificate(tmp_path: Path, who: Identity) -> None:
    """tls_client_auth works for the registered certificate, binds the token to it, and fails without it."""
    server = identity(name="localhost")
    (tmp_path / "server.pem").write_bytes(server.pem)
    (tmp_path / "server.key").write_bytes(server.key_pem)
    (tmp_path / "client.pem").write_bytes(who.pem)
    (tmp_path / "client.key").write_bytes(who.key_pem)
    files = TlsFiles(
        certificate=tmp_path / "server.pem", key=tmp_path / "server.key", client_ca=tmp_path / "client.pem"
    )
    form = {**GRANT, "client_id": "tls", "audience": AUDIENCES["payments"]}
    async with simulator(clock=SystemClock(), entropy=SystemEntropy(), tls=files, host="localhost") as bank:
        bank.world.register_jwt_client("tls", b"", tls_certificate_pem=who.pem, bind_tokens=True)
        async with tls_client(tmp_path, with_certificate=True) as known, tls_client(tmp_path) as unknown:
            status, value, _ = await ask(known, bank.url + MODERN_PATH, form)
            refused, _, _ = await ask(unknown, bank.url + MODERN_PATH, form)
            headers = {"Authorization": f"Bearer {value['access_token']}"}
            async with known.get(bank.url + "/payment/helloworld", headers=headers) as bound:
                same = bound.status
            async with unknown.get(bank.url + "/payment/helloworld", headers=headers) as loose:
                other = loose.status

    assert (status, refused) == (200, 401)
    granted = jwt.decode(value["access_token"], options={"verify_signature": False})
    assert granted["cnf"] == {"x5t#S256": thumbprint(who.certificate, "x5t#S256")}
    assert (same, other) == (200, 401)


async def test_adfs_mints_with_a_lower_case_type(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """ADFS gives an RS256 token whose aud is the resource, and writes bearer in lower case."""
    status, value, _ = await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who))

    assert (status, value["token_type"], value["expires_in"]) == (200, "bearer", 28800)
    assert jwt.get_unverified_header(value["access_token"])["alg"] == "RS256"
    granted = jwt.decode(value["access_token"], options={"verify_signature": False})
    assert (granted["aud"], granted["appid"]) == (RESOURCES["payments"], ADFS_CLIENT_ID)


async def test_adfs_accepts_the_slash_and_a_reused_assertion(
    bank: Bank, session: aiohttp.ClientSession, who: Identity
) -> None:
    """The URL with a slash works, its aud without one too, and so does an assertion for 8 h used twice."""
    form = adfs_form(bank, who, exp=int(bank.world.now()) + 28800)

    first, _, _ = await ask(session, bank.url + ADFS_PATH + "/", form)
    second, _, _ = await ask(session, bank.url + ADFS_PATH, form)

    assert (first, second) == (200, 200)


@pytest.mark.parametrize(
    ("change", "error", "number"),
    [
        ({"client_id": "CC-1"}, "invalid_client", "MSIS9607"),
        ({"client_id": ""}, "invalid_client", "MSIS9607"),
        ({"client_assertion": "a.b.c"}, "invalid_client", "MSIS9622"),
        ({"client_assertion": ""}, "invalid_client", "MSIS9622"),
        ({"resource": "JPMC:URI:RS-1"}, "invalid_resource", "MSIS9602"),
        ({"resource": ""}, "invalid_resource", "MSIS9602"),
    ],
)
async def test_adfs_refuses_in_microsofts_words(
    bank: Bank, session: aiohttp.ClientSession, *, who: Identity, change: dict[str, str], error: str, number: str
) -> None:
    """Client id, assertion and resource have their MSIS numbers, all with status 400."""
    status, value, _ = await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who) | change)

    assert (status, value["error"]) == (400, error)
    assert value["error_description"].startswith(number + ": ")


async def test_adfs_forbids_a_resource_of_others(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A resource that exists but was not granted is 403."""
    bank.world.register_adfs_client("CC-2", identity().pem, resources=["JPMC:URI:RS-2"])

    status, value, _ = await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who, resource="JPMC:URI:RS-2"))

    assert (status, value["error"]) == (403, "unauthorized_client")


async def test_adfs_may_demand_a_tls_certificate(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A client registered with a TLS certificate is refused without it, assertion or not."""
    bank.world.register_adfs_client(ADFS_CLIENT_ID, who.pem, tls_certificate_pem=who.pem)

    status, value, _ = await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who))

    assert (status, value["error"]) == (400, "invalid_client")
    assert "TLS client certificate" in bank.world.seen(ADFS_PATH)[0].note


@pytest.mark.parametrize("path", ["/adfs/oauth2/tokens", "/adfs/ls", "/oauth2/token/x", "/am/oauth2/access_token"])
async def test_a_wrong_url_is_404_without_a_word(bank: Bank, session: aiohttp.ClientSession, path: str) -> None:
    """A path beside a token endpoint gives 404 and an empty body."""
    async with session.post(bank.url + path, data=GRANT) as response:
        assert (response.status, await response.read()) == (404, b"")
