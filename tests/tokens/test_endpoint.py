"""The call to a token endpoint, over real sockets: what is asked, and that it is asked once (bad-inputs 118 to 124)."""

import asyncio
import base64
import logging

import jwt
import pytest

from proxy.errors import TokenUnavailable
from proxy.secret import Secret
from tests.tokens.support import (
    answer,
    credential,
    refusal,
    token,
    token_endpoint,
)
from tests.tokens.support_endpoint import asserting, claims, client, failure, mint


async def test_mock_flavor_sends_basic_and_scope() -> None:
    """Basic authorization, the scope, and nothing that identifies the client in the form."""
    async with token_endpoint() as bank, client(credential(bank.url)) as endpoint:
        minted = await endpoint.mint(audience="", scope="jpm:payments:sandbox")

    assert minted.value.reveal() == "abc.DEF-123"
    asked = bank.asked[0]
    assert asked.head.startswith("POST /oauth2/token HTTP/1.1\r\n")
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"client:canary-secret").decode()
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.form == {"grant_type": "client_credentials", "scope": "jpm:payments:sandbox"}


async def test_modern_flavor_sends_an_assertion_and_an_audience() -> None:
    """A signed assertion in the form, the audience under its name, no Authorization and no client_id."""
    async with token_endpoint() as bank:
        await mint(asserting(bank.url, audience_parameter="audience"))

    asked = bank.asked[0]
    assert "authorization" not in asked.headers
    assert asked.form["audience"] == "jpm:uri:test"
    assert "client_id" not in asked.form
    assert asked.form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    said = claims(asked)
    assert said["iss"] == said["sub"] == "client"
    assert said["aud"] == bank.url
    assert jwt.get_unverified_header(asked.form["client_assertion"])["kid"] == "THUMB"


async def test_legacy_flavor_sends_resource_and_client_id_and_takes_lower_case_bearer() -> None:
    """ADFS wants resource and client_id, and answers `bearer`."""
    reply = answer('{"access_token":"abc","token_type":"bearer","expires_in":43200}')
    async with token_endpoint(reply) as bank:
        adfs = asserting(bank.url, audience_parameter="resource", send_client_id=True)
        assert await mint(adfs) == "abc"

    assert bank.asked[0].form["resource"] == "jpm:uri:test"
    assert bank.asked[0].form["client_id"] == "client"


# --- sent once


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_post_is_not_sent_again_when_the_endpoint_reads_it_and_closes(how: str) -> None:
    """One connection, one request, one failure (finding 1: aiohttp sends some methods again by itself)."""

    async def leave(writer: asyncio.StreamWriter) -> None:
        if how == "reset":
            writer.transport.abort()
        else:
            writer.close()

    async with token_endpoint(leave) as bank:
        error = await failure(credential(bank.url))

    assert (bank.connections, len(bank.asked)) == (1, 1)
    assert isinstance(error, TokenUnavailable)
    assert error.cause


async def test_every_mint_has_a_connection_of_its_own() -> None:
    """What arrives later on an old connection can't become the answer to the next mint (finding 2)."""
    async with (
        token_endpoint(token("first"), token("second")) as bank,
        client(credential(bank.url)) as endpoint,
    ):
        first = await endpoint.mint(audience="", scope="")
        second = await endpoint.mint(audience="", scope="")

    assert (first.value.reveal(), second.value.reveal()) == ("first", "second")
    assert bank.connections == 2


async def test_each_mint_has_a_new_assertion() -> None:
    """A jti is never used twice, also after a failure (bad-inputs 120)."""
    async with token_endpoint(answer("", status=500), token()) as bank, client(asserting(bank.url)) as endpoint:
        with pytest.raises(TokenUnavailable):
            await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert claims(bank.asked[0])["jti"] != claims(bank.asked[1])["jti"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """Secret and assertion go to no other host (bad-inputs 118)."""
    async with token_endpoint() as other, token_endpoint(answer("", status=status, Location=other.url)) as bank:
        error = await failure(credential(bank.url))

    assert other.connections == 0
    assert "redirects are not followed" in error.cause


async def test_cookies_are_forgotten() -> None:
    """What one answer sets, no later request brings back (finding 14)."""
    good = answer('{"access_token":"a","token_type":"Bearer"}', Set_Cookie="session=1; Path=/")
    async with token_endpoint(good) as bank, client(credential(bank.url)) as endpoint:
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert "cookie" not in bank.asked[1].headers


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY belongs to other programs; the egress proxy is a setting."""
    async with token_endpoint() as bank, token_endpoint() as stranger:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, stranger.url)
        monkeypatch.setenv("no_proxy", "")
        await mint(credential(bank.url))

    assert stranger.connections == 0


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
async def test_no_secret_in_errors_and_logs(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, neither exceptions (with their contexts) nor logs carry secret, assertion or body."""
    caplog.set_level(logging.DEBUG)

    async def leave(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def echo(writer: asyncio.StreamWriter) -> None:
        asked = bank.asked[-1]
        proof = asked.form.get("client_assertion") or asked.form.get("client_secret") or asked.headers["authorization"]
        writer.write(refusal(description=f"what I got: {proof} {asked.body.decode()}"))

    async with token_endpoint(leave, echo, b"CANARY-BODY\r\n\r\n", answer("CANARY-BODY")) as bank:
        subject = asserting(bank.url, timeout=2.0)
        if method != "private_key_jwt":
            subject = credential(bank.url, auth_method=method, client_secret=Secret("canary/secret+x"))
        said = ""
        for _ in range(4):
            error: BaseException | None = await failure(subject)
            while error is not None:
                said += f"{error!r} {error} {vars(error)} "
                error = error.__context__
    said += caplog.text + repr(subject)

    assert len(bank.asked) == 4
    assert "what I got: " in said
    assert "canary" not in said.lower()
    assert base64.b64encode(b"client:canary").decode()[:16] not in said
    assert "eyJ" not in said


async def test_repr_names_the_credential() -> None:
    """The line a log would want."""
    async with client(credential()) as endpoint:
        assert repr(endpoint) == "<TokenEndpoint <Credential login client_secret_basic 0000000000000000>>"
