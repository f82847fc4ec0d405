"""Requests to the facade, and with its tokens, over raw sockets: answered by RFC 6749, recorded, never sent on."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.callers.bearer import KEY_FILE, BearerTokens
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.settings.worker_values import FacadeValues
from tests.callers.clients import ASSERTION_TYPE, CLIENT_ID, as_values, claims, private_key, signed
from tests.forwarding.support import bearer, exchanged, recorded
from tests.records.support import journal_lines
from tests.support.clock import ManualClock
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.values import CALLER
from tests.worker.wire import Reply, ask, chunked, request, wire

PATH = b"/adfs/oauth2/token"
FACADE = FacadeValues(
    paths=(PATH.decode(),),
    token_lifetime=600,
    signing_key_files=(),
    accepted_assertion_audiences=(),
    own_hosts=("localhost",),
)
FORM = b"Content-Type: application/x-www-form-urlencoded"
KEY = b"0123456789abcdef" * 4
ERP = replace(CALLER, facade_client_id=CLIENT_ID, assertion_keys=(as_values(private_key()),))
SECRET = "the-callers-key"
BATCH = replace(
    CALLER,
    name="batch",
    networks=(),
    facade_client_id="batch-client",
    api_key_sha256=(hashlib.sha256(SECRET.encode()).hexdigest(),),
)
AUD = "http://localhost/adfs/oauth2/token"


@contextlib.asynccontextmanager
async def running(directory: Path, **changes: Any) -> AsyncIterator[Proxy]:
    """Run a worker's gateway with a facade and two callers."""
    key = directory / KEY_FILE
    key.touch(mode=0o600)
    key.write_bytes(KEY + b"\n")
    async with proxy(directory, **{"facade": FACADE, "callers": (ERP, BATCH), **changes}) as it:
        yield it


def form(**changes: str) -> bytes:
    """Return the form of the ADFS dance, with *changes*."""
    assertion = signed(claims(SystemClock().now(), aud=AUD), private_key())
    values = {
        "grant_type": "client_credentials", "client_id": CLIENT_ID, "resource": "JPMC:URI:RS-1",
        "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion,
    }  # fmt: skip
    return urlencode({**values, **changes}).encode()


def asking(body: bytes, *lines: bytes) -> bytes:
    """Return a token request."""
    return request(b"POST", PATH, FORM, *lines, body=body)


async def token(it: Proxy) -> str:
    """Return a token for the caller erp."""
    reply = await ask(it.port, asking(form()))
    assert reply.status == 200, reply.body
    return str(json.loads(reply.body)["access_token"])


def oauth_error(reply: Reply) -> str:
    """Return the error of RFC 6749 5.2 in *reply*, which must be nothing else."""
    value = json.loads(reply.body)
    assert value.keys() == {"error"}
    assert reply.header(b"Content-Type") == b"application/json;charset=UTF-8"
    assert f'details="{value["error"]}"'.encode() in (reply.header(b"Proxy-Status") or b"")
    return str(value["error"])


async def test_a_token_request_is_answered_as_by_the_bank_and_never_sent_there(tmp_path: Path) -> None:
    """RFC 6749 5.1, with our two headers; the record knows the caller and no secret."""
    async with running(tmp_path) as it:
        body = form()
        reply = await ask(it.port, asking(body))

        value = json.loads(reply.body)
        assert value.keys() == {"access_token", "token_type", "expires_in"}
        assert (reply.status, value["token_type"], value["expires_in"]) == (200, "bearer", 600)
        assert reply.header(b"Cache-Control") == b"no-store"
        assert reply.header(b"Pragma") == b"no-cache"
        assert reply.header(b"Content-Type") == b"application/json;charset=UTF-8"
        assert reply.header(b"Proxy-Status") == b'payproxy; details="facade_token"'
        record = await recorded(it)
        assert it.untouched
        assert (record["caller"], record["caller_proof"]) == ("erp", "network+assertion")
        assert (record["status"], record["origin"], record["sent_upstream"]) == (200, "proxy", "no")
        assert (record["note"], record["code"], record["route"], record["attempts"]) == ("facade_token", "", "", [])
        assert (record["path"], record["request_bytes"]) == (PATH.decode(), len(body))
        written = json.dumps(journal_lines(it.directory))
        assert value["access_token"].split(".")[2] not in written
        assert "client_assertion" not in written
        assert [line["kind"] for line in journal_lines(it.directory)] == ["exchange"]


async def test_the_banks_token_takes_the_place_of_ours(tmp_path: Path) -> None:
    """The bank sees its own, whatever the caller brought; the record says that a token proved the caller."""
    async with running(tmp_path) as it:
        own = await token(it)
        reply = await ask(it.port, request(b"GET", b"/open/a", f"Authorization: Bearer {own}".encode()))

        assert reply.status == 200
        assert bearer(it.last.head) == token_of("open")
        assert own.encode() not in it.last.head
        record = await recorded(it, 2)
        assert (record["caller"], record["caller_proof"]) == ("erp", "network+token")


async def test_a_secret_as_basic_header_gets_a_token(tmp_path: Path) -> None:
    """The caller's key, where the client would send the bank's secret."""
    async with running(tmp_path) as it:
        header = b"Authorization: Basic YmF0Y2gtY2xpZW50OnRoZS1jYWxsZXJzLWtleQ=="
        reply = await ask(it.port, asking(b"grant_type=client_credentials", header))

        assert reply.status == 200
        assert (await recorded(it)).items() >= {"caller": "batch", "caller_proof": "key"}.items()
        wrong = await ask(it.port, asking(b"grant_type=client_credentials", header[:-6] + b"AA=="))
        assert (wrong.status, oauth_error(wrong)) == (401, "invalid_client")
        assert wrong.header(b"WWW-Authenticate") == b'Basic realm="payproxy"'


async def test_a_form_in_chunks_is_read(tmp_path: Path) -> None:
    """Java's HttpClient sends one where it does not know the length; also after 100 Continue."""
    async with running(tmp_path) as it:
        body = chunked(form()[:100], form()[100:])
        assert (await ask(it.port, request(b"POST", PATH, FORM, b"Transfer-Encoding: chunked"), body)).status == 200
        async with wire(it.port) as waiting:
            head = request(b"POST", PATH, FORM, b"Transfer-Encoding: chunked", b"Expect: 100-continue")
            assert (await exchanged(waiting, head)).status == 100
            assert (await exchanged(waiting, body)).status == 200


async def test_a_refusal_is_an_answer_in_oauths_words(tmp_path: Path) -> None:
    """No problem document: a client of ADFS reads these; the cause is in the record only."""
    async with running(tmp_path) as it:
        for number, (changes, status, error, cause) in enumerate(
            (
                ({"grant_type": "password"}, 400, "unsupported_grant_type", "password"),
                ({"client_assertion_type": "x"}, 400, "invalid_request", "client_assertion_type"),
                ({"client_assertion": "a.b.c"}, 401, "invalid_client", "can't be read"),
            ),
            start=1,
        ):
            reply = await ask(it.port, asking(form(**changes)))
            record = await recorded(it, number)

            assert (reply.status, oauth_error(reply)) == (status, error)
            assert reply.header(b"WWW-Authenticate") is None
            assert (record["status"], record["code"], record["note"]) == (status, error, "facade_token")
            assert (record["caller"], record["sent_upstream"]) == ("", "no")
            assert cause in record["cause"]
            assert cause.encode() not in reply.body
        assert it.untouched


async def test_a_form_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Above 64 KiB, by its length or by what comes."""
    async with running(tmp_path) as it:
        for sent in (
            asking(form(x="y" * 66_000)),
            request(b"POST", PATH, FORM, b"Transfer-Encoding: chunked") + chunked(form(x="y" * 66_000)),
        ):
            reply = await ask(it.port, sent)
            assert (reply.status, oauth_error(reply)) == (400, "invalid_request")
        assert it.gateway.admission.held_bytes == 0
        assert it.gateway.admission.in_flight == 0


async def test_two_media_types_are_none(tmp_path: Path) -> None:
    """Which of them would count is anybody's guess."""
    async with running(tmp_path) as it:
        reply = await ask(it.port, asking(form(), b"Content-Type: text/plain"))
        assert (reply.status, oauth_error(reply)) == (400, "invalid_request")


async def test_other_methods_are_not_allowed(tmp_path: Path) -> None:
    """A GET would have its secrets in the address."""
    async with running(tmp_path) as it:
        for method in (b"GET", b"HEAD", b"PUT", b"OPTIONS"):
            reply = await ask(
                it.port, request(method, PATH + b"?grant_type=client_credentials"), method=method.decode()
            )
            assert (reply.status, reply.header(b"Allow")) == (405, b"POST")
        assert (await recorded(it)).items() >= {"code": "method_not_allowed", "note": "facade_token"}.items()


async def test_an_absolute_target_is_another_servers(tmp_path: Path) -> None:
    """Who uses us as HTTP proxy means the host that it names; near paths are routes' too."""
    async with running(tmp_path) as it:
        own = f"Authorization: Bearer {await token(it)}".encode()
        for target in (b"http://localhost" + PATH, PATH + b"/", PATH + b"x", b"/oauth2/token"):
            reply = await ask(it.port, request(b"POST", target, FORM, own, body=form()))
            assert (reply.status, reply.problem["code"]) == (404, "no_route")


async def test_http_1_0_is_answered(tmp_path: Path) -> None:
    """And the connection closed."""
    async with running(tmp_path) as it:
        reply = await ask(it.port, request(b"POST", PATH, FORM, body=form(), version=b"1.0"))
        assert (reply.status, reply.header(b"Connection")) == (200, b"close")


async def test_the_callers_rate_counts_its_token_requests(tmp_path: Path) -> None:
    """Once it is known who asks."""
    async with running(tmp_path, callers=(replace(ERP, max_requests_per_second=1.0),)) as it:
        assert (await ask(it.port, asking(form()))).status == 200
        reply = await ask(it.port, asking(form()))
        assert (reply.status, reply.problem["code"]) == (429, "rate_limited")


async def test_a_stopping_instance_gives_no_tokens(tmp_path: Path) -> None:
    """As it takes no other requests."""
    async with running(tmp_path) as it:
        it.gateway.admission.closed = True
        assert (await ask(it.port, asking(form()))).problem["code"] == "draining"


async def test_an_expired_token_is_the_one_401_of_ours(tmp_path: Path) -> None:
    """With invalid_token, so that the client mints anew; nothing is sent."""
    async with running(tmp_path) as it:
        past = BearerTokens((KEY,), lifetime=60, clock=ManualClock(1_700_000_000.0), entropy=SystemEntropy())
        for number, sent in enumerate((past.mint("erp").reveal(), (await token(it))[:-1]), start=2):
            header = f"Authorization: Bearer {sent}".encode()
            reply = await ask(it.port, request(b"POST", b"/open/pay", header, body=b"{}"))

            assert (reply.status, reply.problem["code"]) == (401, "caller_token_invalid")
            assert reply.header(b"WWW-Authenticate") == b'Bearer error="invalid_token"'
            assert (reply.problem["sent_upstream"], reply.problem["retryable"]) == ("no", False)
            record = await recorded(it, number)
            assert (record["status"], record["code"], record["caller"]) == (401, "caller_token_invalid", "")
            assert sent not in json.dumps(journal_lines(it.directory))
        assert it.untouched


async def test_an_old_bearer_of_the_bank_gets_a_401_or_changes_nothing(tmp_path: Path) -> None:
    """401 for who is not known, so that its client mints here; who is known by network is served as ever."""
    old = b"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA"
    async with running(tmp_path) as it:
        reply = await ask(it.port, request(b"GET", b"/open/a", old))
        assert (reply.status, reply.problem["code"]) == (401, "caller_token_invalid")
        reply = await ask(it.port, request(b"GET", b"/open/a"))
        assert (reply.status, reply.problem["code"]) == (403, "caller_unauthenticated")
    async with running(tmp_path, callers=(ERP, replace(CALLER, name="near"))) as it:
        assert (await ask(it.port, request(b"GET", b"/open/a", old))).status == 200
        assert bearer(it.last.head) == token_of("open")


async def test_without_a_facade_nothing_changes(tmp_path: Path) -> None:
    """Its paths are routes' or nobody's, and callers' bearers are ignored."""
    async with running(tmp_path, facade=None, callers=(CALLER,)) as it:
        assert (await ask(it.port, asking(form()))).problem["code"] == "no_route"
        tokens = BearerTokens((KEY,), lifetime=60, clock=SystemClock(), entropy=SystemEntropy())
        header = f"Authorization: Bearer {tokens.mint('erp').reveal()}x".encode()
        assert (await ask(it.port, request(b"GET", b"/open/a", header))).status == 200


async def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """The worker does not come to serve."""
    (tmp_path / KEY_FILE).write_bytes(KEY)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(OSError, match="chmod 600"):
        async with proxy(tmp_path, facade=FACADE, callers=(ERP,)):
            pass
    (tmp_path / KEY_FILE).chmod(0o600)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(OSError, match="32"):
        async with proxy(tmp_path, facade=FACADE, callers=(ERP,)):
            pass
