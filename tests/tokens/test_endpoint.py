"""The call to a token endpoint, over real sockets (bad-inputs 112 to 125)."""

import asyncio
import base64
import gzip
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.clock import SystemClock
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.signer import FileSigner
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import ClockSkewMeasured
from proxy.secret import Secret
from proxy.tokens.endpoint import TokenEndpoint
from tests.support.clock import ManualClock
from tests.tokens.support import (
    Asked,
    Events,
    FixedEntropy,
    Identity,
    answer,
    credential,
    make_tls,
    refusal,
    token,
    token_endpoint,
)

NOW = 1_800_000_000.0
SIGNING_KEY = rsa.generate_private_key(65537, 2048)


@asynccontextmanager
async def client(
    credential: Credential, *, events: Events | None = None, clock: ManualClock | None = None
) -> AsyncIterator[TokenEndpoint]:
    """Give a client of *credential* and close it."""
    observe = Events() if events is None else events
    endpoint = TokenEndpoint(credential, clock=clock or ManualClock(NOW), entropy=FixedEntropy(), observe=observe)
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def mint(credential: Credential) -> str:
    """Mint once and return the token."""
    async with client(credential) as endpoint:
        return (await endpoint.mint(audience="jpm:uri:test", scope="")).value.reveal()


async def failure(credential: Credential) -> TokenRefused | TokenUnavailable:
    """Mint once and return why it failed."""
    try:
        await mint(credential)
    except (TokenRefused, TokenUnavailable) as error:
        return error
    raise AssertionError("a token was minted")


def asserting(url: str, **changes: object) -> Credential:
    """Return a private_key_jwt credential for *url*."""
    fields: dict[str, object] = {
        "auth_method": "private_key_jwt",
        "client_secret": None,
        "signer": FileSigner(SIGNING_KEY),
        "key_id": "THUMB",
        "assertion_audience": url,
    }
    return credential(url, **(fields | changes))


def claims(asked: Asked) -> dict[str, object]:
    """Return the claims of the assertion in *asked*, its signature checked by another library."""
    decoded = jwt.decode(
        asked.form["client_assertion"],
        SIGNING_KEY.public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
    )
    return dict(decoded)


def at(seconds: float) -> str:
    """Return a Date header for *seconds* after NOW."""
    return formatdate(NOW + seconds, usegmt=True)


# --- the request of each flavor


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


# --- bounds


async def test_a_slow_drip_ends_at_the_deadline() -> None:
    """A byte now and then doesn't keep the call alive (bad-inputs 125)."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with token_endpoint(drip) as bank:
        began = SystemClock().monotonic()
        error = await failure(credential(bank.url, timeout=0.3))

    assert SystemClock().monotonic() - began < 2
    assert error.detail == "The token endpoint of credential login did not answer in time."
    assert error.__context__ is None


async def test_silence_ends_at_the_deadline() -> None:
    """An endpoint that takes the request and says nothing is an outage (bad-inputs 112)."""

    async def silence(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with token_endpoint(silence) as bank:
        error = await failure(credential(bank.url, timeout=0.2))

    assert isinstance(error, TokenUnavailable)
    assert len(bank.asked) == 1


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_answer_is_cut_off(status: int) -> None:
    """64 KiB are read, then the connection is closed (bad-inputs 114)."""
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n\r\n".encode())
        while True:
            writer.write(b" " * 65536)
            await writer.drain()
            written += 65536

    async with token_endpoint(endless) as bank:
        error = await failure(credential(bank.url))

    assert "more than 65536 bytes" in error.cause
    assert written < 50_000_000


async def test_a_body_that_ends_early_is_no_token() -> None:
    """A cut answer is an outage, also if what came would parse."""

    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(token().replace(b"Content-Length: ", b"Content-Length: 9"))
        writer.close()

    async with token_endpoint(cut) as bank:
        error = await failure(credential(bank.url))

    assert error.cause == "the answer broke off"


async def test_a_compressed_answer_is_not_inflated() -> None:
    """It was not asked for, and a small one can become gigabytes."""
    bomb = gzip.compress(b" " * 5_000_000)
    async with token_endpoint(answer(bomb, Content_Encoding="gzip")) as bank:
        error = await failure(credential(bank.url))

    assert "compressed" in error.cause


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 CANARY OK\r\n\r\n", b"CANARY\r\n\r\n", b"HTTP/1.1 200 OK\r\nCANARY\r\n\r\n", b"\x00" * 200]
)
async def test_what_is_no_http_is_not_quoted(reply: bytes) -> None:
    """The library's exceptions quote the answer; ours don't."""
    async with token_endpoint(reply) as bank:
        error = await failure(credential(bank.url, timeout=1))

    assert isinstance(error, TokenUnavailable)
    assert "CANARY" not in error.detail + error.cause


async def test_connection_refused() -> None:
    """Nobody listens: an outage that says so (bad-inputs 112)."""
    async with token_endpoint() as bank:
        url = bank.url
    error = await failure(credential(url))

    assert error.detail == "The token endpoint of credential login can't be reached."
    assert error.cause == "no connection: Connection refused" or error.cause.startswith("no connection: Connect call")


async def test_a_cancelled_mint_leaves_nothing_open() -> None:
    """Cancellation passes, and the connection is closed (a socket left open fails this test)."""
    came = asyncio.Event()

    async def silence(_: asyncio.StreamWriter) -> None:
        came.set()
        await asyncio.Event().wait()

    async with token_endpoint(silence) as bank, client(credential(bank.url)) as endpoint:
        task = asyncio.create_task(endpoint.mint(audience="", scope=""))
        await asyncio.wait_for(came.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_two_audiences_are_minted_in_parallel() -> None:
    """Neither waits for the other's answer (bad-inputs 124)."""
    both = asyncio.Barrier(2)

    async def together(writer: asyncio.StreamWriter) -> None:
        await both.wait()
        writer.write(token())

    async with (
        token_endpoint(together) as bank,
        client(credential(bank.url, audience_parameter="audience")) as endpoint,
    ):
        await asyncio.gather(endpoint.mint(audience="a", scope=""), endpoint.mint(audience="b", scope=""))

    assert sorted(asked.form["audience"] for asked in bank.asked) == ["a", "b"]


# --- secrets


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


# --- the clock


async def test_skew_is_measured_and_corrected() -> None:
    """iat, nbf and exp of the next assertion come from the endpoint's clock."""
    events = Events()
    async with token_endpoint(token(date=at(45))) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    first, second = claims(bank.asked[0]), claims(bank.asked[1])
    assert events[0] == ClockSkewMeasured(credential="login", seconds=45)
    for name in ("iat", "nbf", "exp"):
        before, after = first[name], second[name]
        assert isinstance(before, int)
        assert after == before + 45


@pytest.mark.parametrize("skew", [-2, -1, 0, 1, 2])
async def test_two_seconds_of_skew_are_ignored(skew: int) -> None:
    """Date has whole seconds, and the call took time."""
    events = Events()
    async with token_endpoint(token(date=at(skew))) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert claims(bank.asked[0])["iat"] == claims(bank.asked[1])["iat"]
    assert len(events) == 2


async def test_skew_is_taken_against_the_midpoint_of_the_call() -> None:
    """A call of 10 s makes up for 5 s, and within that nothing is certain."""
    clock, events = ManualClock(NOW), Events()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await clock.advance(10)
        writer.write(token(date=at(11)))

    async with (
        token_endpoint(slow, token()) as bank,
        client(asserting(bank.url), events=events, clock=clock) as endpoint,
    ):
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert events == [ClockSkewMeasured(credential="login", seconds=6)]
    iat = claims(bank.asked[0])["iat"]
    assert isinstance(iat, int)
    assert claims(bank.asked[1])["iat"] == iat + 10


@pytest.mark.parametrize("skew", [300, -300])
async def test_an_assertion_refused_for_the_clock_is_made_anew_once(skew: int) -> None:
    """The refusal itself tells the time: a second assertion with the corrected clock goes out at once (121)."""
    async with token_endpoint(refusal(date=at(skew)), token(date=at(skew))) as bank:
        assert await mint(asserting(bank.url)) == "abc.DEF-123"

    first, second = (claims(asked) for asked in bank.asked)
    iat = first["iat"]
    assert isinstance(iat, int)
    assert second["iat"] == iat + skew
    assert first["jti"] != second["jti"]


async def test_a_refusal_names_the_clock() -> None:
    """If it is refused all the same, the operator reads how far off the clock is, and no third request is made."""
    async with token_endpoint(refusal(date=at(300))) as bank:
        error = await failure(asserting(bank.url))

    assert len(bank.asked) == 2
    assert error.cause == (
        "401 invalid_client: no (this machine's clock is 300 s behind the token endpoint's, "
        "which assertions are corrected for)"
    )
    assert "clock" not in error.detail


async def test_correction_is_bounded_to_ten_minutes() -> None:
    """A clock that is an hour off is named, not covered up."""
    async with token_endpoint(refusal(date=at(-3600))) as bank:
        error = await failure(asserting(bank.url))

    iat = claims(bank.asked[0])["iat"]
    assert isinstance(iat, int)
    assert claims(bank.asked[1])["iat"] == iat - 600
    assert "3600 s ahead of the token endpoint's, too far to correct" in error.cause


async def test_a_clock_that_was_set_since_is_noticed() -> None:
    """The old correction makes the next assertion wrong; its refusal heals that in the same mint."""
    clock = ManualClock(NOW)
    replies = token(date=at(300)), refusal(date=at(300)), token(date=at(300))
    async with token_endpoint(*replies) as bank, client(asserting(bank.url), clock=clock) as endpoint:
        await endpoint.mint(audience="", scope="")
        clock.set_wall(NOW + 300)
        await endpoint.mint(audience="", scope="")

    iats = [claims(asked)["iat"] for asked in bank.asked]
    assert iats == [NOW - 10, NOW + 590, NOW + 290]


async def test_a_refusal_without_skew_is_not_tried_again() -> None:
    """A bank sees every failed client authentication (bad-inputs 119)."""
    async with token_endpoint(refusal(date=at(1))) as bank:
        error = await failure(asserting(bank.url))

    assert isinstance(error, TokenRefused)
    assert len(bank.asked) == 1


async def test_skew_does_not_matter_to_secrets() -> None:
    """A refused client secret is refused, whatever the clock."""
    async with token_endpoint(refusal(date=at(300))) as bank:
        error = await failure(credential(bank.url))

    assert len(bank.asked) == 1
    assert "clock" not in error.cause


@pytest.mark.parametrize("date", ["soon", "", "Mon, 99 Foo 2026 00:00:00 GMT"])
async def test_a_broken_date_measures_nothing(date: str) -> None:
    """Nonsense in Date is no skew, and no reason to fail."""
    events = Events()
    async with token_endpoint(token(date=date)) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")

    assert events == []


async def test_the_clock_of_a_page_in_between_does_not_count() -> None:
    """HTML is another machine's answer, so its Date says nothing about the endpoint."""
    events = Events()
    page = answer("<html>", kind="text/html", status=403, Date=at(300))
    async with token_endpoint(page) as bank, client(asserting(bank.url), events=events) as endpoint:
        with pytest.raises(TokenRefused):
            await endpoint.mint(audience="", scope="")

    assert events == []
    assert len(bank.asked) == 1


# --- TLS and the egress proxy


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identity, Identity]:
    """A private CA, a server's and a client's identity."""
    return make_tls(tmp_path_factory.mktemp("tls"))


def server_context(tls: tuple[Path, Identity, Identity], *, client_certificate: bool = False) -> ssl.SSLContext:
    """Return the endpoint's TLS side."""
    ca, server, _ = tls
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    return context


async def test_an_unknown_ca_gets_no_request(tls: tuple[Path, Identity, Identity]) -> None:
    """Verification can't be turned off: no byte of the request is sent (bad-inputs 94)."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        error = await failure(credential(bank.url))

    assert bank.asked == []
    assert error.cause.startswith("its certificate is not accepted: ")


async def test_a_private_ca_is_believed(tls: tuple[Path, Identity, Identity]) -> None:
    """ca_file makes the endpoint trusted."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        assert await mint(credential(bank.url, ca_file=str(tls[0]))) == "abc.DEF-123"


async def test_tls_client_auth_shows_its_certificate(tls: tuple[Path, Identity, Identity]) -> None:
    """The endpoint demands a client certificate, gets it, and client_id in the form (RFC 8705 2)."""
    ca, _, identity = tls
    files = {"client_certificate_file": str(identity.certificate), "client_key_file": str(identity.key)}
    async with token_endpoint(tls=server_context(tls, client_certificate=True)) as bank:
        with_certificate = credential(bank.url, ca_file=str(ca), auth_method="tls_client_auth", **files)
        assert await mint(with_certificate) == "abc.DEF-123"
        error = await failure(credential(bank.url, ca_file=str(ca), auth_method="tls_client_auth"))

    assert [asked.form["client_id"] for asked in bank.asked] == ["client"]
    assert isinstance(error, TokenUnavailable)


async def test_unusable_tls_files_are_named(tmp_path: Path) -> None:
    """A wrong CA or client certificate is found when the client is made."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    files = {"client_certificate_file": str(wrong), "client_key_file": str(wrong)}
    for changes in ({"ca_file": str(wrong)}, {"ca_file": str(tmp_path / "none")}, files):
        with pytest.raises(CredentialUnusable, match=str(tmp_path)):
            TokenEndpoint(credential(**changes), clock=ManualClock(), entropy=FixedEntropy(), observe=Events())


@asynccontextmanager
async def egress(*, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """Give the URL of a CONNECT proxy and what it was asked."""
    asked: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        writer.write(f"HTTP/1.1 {status} Something\r\n\r\n".encode())
        await writer.drain()
        if status == 200:
            host, port = head.split(" ")[1].rsplit(":", 1)
            away_reader, away_writer = await asyncio.open_connection(host, int(port))
            tasks.append(asyncio.create_task(pump(away_reader, writer)))
            tasks.append(asyncio.create_task(pump(reader, away_writer)))
        else:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_egress_proxy_sees_no_secret(tls: tuple[Path, Identity, Identity]) -> None:
    """The proxy gets CONNECT, the endpoint the request, through TLS."""
    async with token_endpoint(tls=server_context(tls)) as bank, egress() as (url, asked):
        assert await mint(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url)) == "abc.DEF-123"

    assert asked[0].startswith("CONNECT 127.0.0.1:")
    assert "authorization" not in asked[0].lower()
    assert len(bank.asked) == 1


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_an_egress_proxy_that_refuses_is_named(tls: tuple[Path, Identity, Identity], status: int) -> None:
    """The operator reads that it was the proxy; the caller that the endpoint can't be reached."""
    async with token_endpoint(tls=server_context(tls)) as bank, egress(status=status) as (url, _):
        error = await failure(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url))

    assert error.cause == f"the egress proxy refused CONNECT: status {status}"
    assert isinstance(error, TokenUnavailable)
    assert bank.connections == 0


async def test_an_egress_proxy_that_is_down_is_named(tls: tuple[Path, Identity, Identity]) -> None:
    """It is the proxy that can't be reached, not the bank."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        async with egress() as (url, _):
            pass
        error = await failure(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url))

    assert error.cause.startswith("the egress proxy can't be reached")


async def test_repr_names_the_credential() -> None:
    """The line a log would want."""
    async with client(credential()) as endpoint:
        assert repr(endpoint) == "<TokenEndpoint <Credential login client_secret_basic 0000000000000000>>"
