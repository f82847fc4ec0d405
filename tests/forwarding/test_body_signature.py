"""Bodies that are signed: what the bank gets verifies with another implementation, and is what the caller sent."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.utils import base64url_decode, base64url_encode

from proxy.forwarding.body_signature import HEADER, signing_input, with_content_type
from proxy.link.counts import SignatureCount
from proxy.link.messages import SignatureAnswer, SignatureRequest
from proxy.routing.headers import Header, HeaderLine
from proxy.settings.signature import SIGNATURE_SECONDS
from proxy.worker.signature_requests import ANSWER_SECONDS, SignatureRequests
from tests.forwarding.support import REFUSED, agrees, intents, post, recorded
from tests.upstream.support import OK, Step, eventually, says
from tests.worker.support import Proxy, proxy
from tests.worker.values import route
from tests.worker.wire import ask, chunked, request, wire

KEY = generate_private_key(65537, 2048)
THUMBPRINT = "of-the-key"
ROUTES = (route("open", signed_type="text/xml"), route("small", signed_type="text/xml", replay_body_bytes=64))
BODY = b'{"amount": 10.00, "card": "4111111111111111"}'

# RFC 7515 A.2.1: an RSA key, a payload, and its RS256 signature under the header {"alg":"RS256"}.
_N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs"
    "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVM"
    "TBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
_PAYLOAD = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZc"
    "AcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOk"
    "HWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)


def signs(asked: SignatureRequest) -> SignatureAnswer:
    """Answer as the keeper does."""
    signature = KEY.sign(bytes.fromhex(asked.digest), PKCS1v15(), Prehashed(SHA256()))
    return SignatureAnswer(asked.ask, base64url_encode(signature).decode(), THUMBPRINT, "")


def refuses(asked: SignatureRequest) -> SignatureAnswer:
    """Answer that the key's device is away."""
    return SignatureAnswer(asked.ask, "", "", "the token is not there")


def signer(it: Proxy) -> SignatureRequests:
    """Return the worker's end of what it asks the keeper."""
    assert isinstance(it.gateway.signer, SignatureRequests)
    return it.gateway.signer


def payload_of(body: bytes) -> bytes:
    """Return the payload of the JWS *body*, verified by PyJWT."""
    found = jwt.PyJWS(algorithms=["RS256"]).decode_complete(body, KEY.public_key(), algorithms=["RS256"])
    assert found["header"] == {"alg": "RS256"}
    payload = found["payload"]
    assert isinstance(payload, bytes)
    return payload


def fields(head: bytes) -> dict[bytes, bytes]:
    """Return the header fields of *head* by their names in lower case."""
    lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:] if line)
    return {name.lower(): value for name, _, value in lines}


@asynccontextmanager
async def signing(
    directory: Path, *script: Step, keeper: Callable[..., SignatureAnswer] | None = signs, **changes: Any
) -> AsyncIterator[Proxy]:
    """Run a worker whose *keeper* signs."""
    async with proxy(directory, *script, **{"routes": ROUTES, **changes}) as it:
        it.keeper.signs = keeper
        yield it


@given(st.binary(min_size=1))
@example(bytes(49_152))
@example(bytes(49_153))
@example(bytes(range(256)) * 1200)
def test_any_bytes_are_the_payload(payload: bytes) -> None:
    """In pieces or not: another implementation reads the same bytes out of it."""
    whole = b"".join(signing_input(payload))
    header, _, encoded = whole.partition(b".")

    assert base64url_decode(header) == b'{"alg":"RS256"}'
    assert base64url_decode(encoded) == payload
    assert encoded == base64url_encode(payload)


def test_the_example_of_the_standard() -> None:
    """RFC 7515 A.2: the signature that is printed there is one of our signing input."""
    key = RSAPublicNumbers(65537, int.from_bytes(base64url_decode(_N), "big")).public_key()

    key.verify(base64url_decode(_SIGNATURE), b"".join(signing_input(_PAYLOAD)), PKCS1v15(), SHA256())


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
async def test_the_bank_gets_a_jws_of_what_the_caller_sent(tmp_path: Path, method: bytes) -> None:
    """Its length and type are those of the JWS, every other header is as it was, in its place."""
    async with signing(tmp_path) as it:
        lines = (b"Content-Type: application/json", b"Idempotency-Key: k1", b"X-Other: kept")
        assert (await ask(it.port, request(method, b"/open/pay?x=1", *lines, body=BODY))).status == 200

        assert payload_of(it.last.body) == BODY
        found = fields(it.last.head)
        assert found[b"content-type"] == b"text/xml"
        assert found[b"content-length"] == str(len(it.last.body)).encode()
        assert (found[b"idempotency-key"], found[b"x-other"]) == (b"k1", b"kept")
        names = [line.partition(b":")[0] for line in it.last.head.split(b"\r\n")[1:] if line]
        assert names[:4] == [b"Host", b"Content-Type", b"Idempotency-Key", b"X-Other"]


async def test_a_body_without_a_type_gets_one(tmp_path: Path) -> None:
    """The bank has to know what it gets."""
    async with signing(tmp_path) as it:
        await ask(it.port, post(body=BODY))
        assert fields(it.last.head)[b"content-type"] == b"text/xml"


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"PATCH"])
async def test_other_methods_are_not_signed(tmp_path: Path, method: bytes) -> None:
    """The bank wants POST and PUT signed only."""
    async with signing(tmp_path) as it:
        await ask(it.port, request(method, b"/open/x", b"Content-Type: application/json", body=b"{}"))

        assert it.last.body == b"{}"
        assert fields(it.last.head)[b"content-type"] == b"application/json"
        assert it.keeper.all(SignatureRequest) == []
        assert "signature" not in await recorded(it)


async def test_an_empty_body_is_sent_as_it_is(tmp_path: Path) -> None:
    """A JWS with an empty payload would look like one with a detached payload (RFC 7515 appendix F)."""
    async with signing(tmp_path, says(OK), says(OK)) as it:
        await ask(it.port, post(body=b""))
        await ask(it.port, b"POST /open/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

        assert [one.body for one in it.bank.requests] == [b"", b""]
        assert it.keeper.all(SignatureRequest) == []


@pytest.mark.parametrize("repeats", [20, 60_000])
async def test_a_body_in_chunks_is_signed_whole(tmp_path: Path, repeats: int) -> None:
    """It goes out with its length, small or large."""
    async with signing(tmp_path) as it:
        head = b"POST /open/pay HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await ask(it.port, head + chunked(b"one ", b"body " * repeats, b"more"))

        assert payload_of(it.last.body) == b"one " + b"body " * repeats + b"more"
        assert fields(it.last.head)[b"content-length"] == str(len(it.last.body)).encode()
        assert b"transfer-encoding" not in fields(it.last.head)


async def test_a_caller_that_waits_for_100_continue(tmp_path: Path) -> None:
    """It is told to go on, and its body is signed."""
    async with signing(tmp_path) as it, wire(it.port) as caller:
        await caller.send(
            b"POST /open/pay HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await caller.send(b"body")
        assert (await caller.answer(method="POST")).status == 200
        assert payload_of(it.last.body) == b"body"


async def test_a_slow_upload_is_signed_when_it_is_complete(tmp_path: Path) -> None:
    """The keeper is asked once, for the whole."""
    async with signing(tmp_path) as it, wire(it.port) as caller:
        await caller.drip(post(body=BODY), size=7)
        assert (await caller.answer(method="POST")).status == 200
        assert payload_of(it.last.body) == BODY
        assert len(it.keeper.all(SignatureRequest)) == 1


@pytest.mark.parametrize("body", [bytes(65), chunked(bytes(40), bytes(40))], ids=["length", "chunked"])
async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path, body: bytes) -> None:
    """It is not streamed unsigned, and it is not cut."""
    framing = b"Transfer-Encoding: chunked" if len(body) > 65 else b"Content-Length: 65"
    async with signing(tmp_path) as it:
        reply = await ask(it.port, b"POST /small/x HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n" + body)

        assert (reply.status, reply.problem["code"]) == (413, "body_too_large")
        assert "64 bytes" in reply.problem["detail"]
        agrees(reply, await recorded(it), sent="no")
        assert it.untouched


async def test_a_body_beyond_the_limit_is_refused_before_it_comes(tmp_path: Path) -> None:
    """A caller that waits for 100 Continue never sends it."""
    async with signing(tmp_path) as it:
        head = b"POST /small/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n"
        assert (await ask(it.port, head)).status == 413


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP, br", b"identity, gzip"])
async def test_a_compressed_body_is_refused(tmp_path: Path, encoding: bytes) -> None:
    """The bank would have to take compressed bytes for JSON."""
    async with signing(tmp_path) as it:
        reply = await ask(it.port, post(b"/open/x", b"Content-Encoding: " + encoding, body=b"\x1f\x8b"))

        assert (reply.status, reply.problem["code"]) == (415, "body_encoded")
        agrees(reply, await recorded(it), sent="no")
        assert it.untouched


async def test_a_compressed_body_is_refused_before_it_comes(tmp_path: Path) -> None:
    """A caller that waits for 100 Continue never sends it: the head decides."""
    async with signing(tmp_path) as it:
        head = b"POST /open/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n"
        async with wire(it.port) as caller:
            await caller.send(head + b"Content-Encoding: gzip\r\n\r\n")
            assert (await caller.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 415 ")
        assert it.untouched


async def test_identity_is_no_encoding(tmp_path: Path) -> None:
    """RFC 9110 12.5.3."""
    async with signing(tmp_path) as it:
        assert (await ask(it.port, post(b"/open/x", b"Content-Encoding: identity", body=BODY))).status == 200
        assert payload_of(it.last.body) == BODY


async def test_a_large_body_is_signed_in_turns(tmp_path: Path) -> None:
    """In pieces, so that other requests are served in between; the bank gets one JWS."""
    body = bytes(range(256)) * 4000
    async with signing(tmp_path) as it:
        assert (await ask(it.port, post(body=body))).status == 200
        assert payload_of(it.last.body) == body


async def test_without_a_signature_nothing_is_sent(tmp_path: Path) -> None:
    """The caller may send it again; why stands in the record, not in the answer."""
    async with signing(tmp_path, keeper=refuses) as it:
        reply = await ask(it.port, post(body=BODY))

        assert (reply.status, reply.problem["code"]) == (503, "signature_unavailable")
        assert reply.problem["retryable"] is True
        assert "token is not there" not in str(reply.problem)
        record = await recorded(it)
        agrees(reply, record, sent="no")
        assert record["cause"] == "the token is not there"
        assert record["attempts"] == []
        assert it.untouched
        assert intents(it) == []


async def test_a_keeper_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded, and nothing is sent."""
    monkeypatch.setattr("proxy.worker.signature_requests.ANSWER_SECONDS", 0.05)
    async with signing(tmp_path, keeper=None) as it:
        reply = await ask(it.port, post(body=BODY))

        assert reply.problem["code"] == "signature_unavailable"
        assert (await recorded(it))["cause"] == "the keeper did not answer in time"
        assert signer(it).refused() == (SignatureCount("open", "unanswered", 1.0),)
        assert signer(it).refused() == ()
        assert it.untouched


def test_the_page_says_how_long_a_request_waits() -> None:
    """With a keeper that does not answer; it begins no signature for a request that has waited for longer than 5 s."""
    page = (Path(__file__).parents[2] / "docs/body-signing.md").read_text(encoding="utf-8")
    words = f"waits at most {ANSWER_SECONDS:g} seconds for its signature, {SIGNATURE_SECONDS:g} for its turn"

    assert words in " ".join(page.split())


async def test_a_keeper_that_is_gone(tmp_path: Path) -> None:
    """Who waits is answered at once, and so is who comes later."""
    async with signing(tmp_path, keeper=None) as it, wire(it.port) as waiting:
        await waiting.send(post(body=BODY))
        await eventually(lambda: len(it.keeper.all(SignatureRequest)) == 1)
        signer(it).abandon()
        replies = [await waiting.answer(method="POST"), await ask(it.port, post(body=BODY))]

        assert [reply.problem["code"] for reply in replies] == ["signature_unavailable"] * 2
        assert signer(it).refused() == ()
        assert signer(it).orphaned == 2
        assert len(it.keeper.all(SignatureRequest)) == 1
        assert it.untouched


async def test_no_more_than_some_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its part a caller's request is refused at once."""
    monkeypatch.setattr("proxy.worker.signature_requests.MOST_SIGNATURES_WAITING", 2)
    async with signing(tmp_path, keeper=None) as it, wire(it.port) as waiting:
        await waiting.send(post(body=BODY))
        await eventually(lambda: len(it.keeper.all(SignatureRequest)) == 1)

        assert (await ask(it.port, post(body=BODY))).problem["code"] == "signature_unavailable"
        assert signer(it).refused() == (SignatureCount("open", "overloaded", 1.0),)
        assert len(it.keeper.all(SignatureRequest)) == 1


async def test_a_second_send_has_the_same_bytes(tmp_path: Path) -> None:
    """A JWS has no time in it, so it stays valid: one signature, whatever key there is meanwhile."""
    async with signing(tmp_path, says(REFUSED), says(OK)) as it:
        assert (await ask(it.port, post(body=BODY))).status == 200

        first, second = it.bank.requests
        assert first.body == second.body
        assert payload_of(second.body) == BODY
        assert len(it.keeper.all(SignatureRequest)) == 1
        assert [line["signature"]["key"] for line in intents(it)] == [THUMBPRINT] * 2


async def test_intent_and_record_say_who_signed_what(tmp_path: Path) -> None:
    """The HMAC of what came in, and that of what was sent; neither body nor JWS."""
    (tmp_path / "body.key").touch(mode=0o600)
    (tmp_path / "body.key").write_bytes(b"0123456789abcdef")
    async with signing(tmp_path, request_log={"body_hmac_key_file": str(tmp_path / "body.key")}) as it:
        await ask(it.port, post(body=BODY))
        record = await recorded(it)
        [intent] = intents(it)

        def of(body: bytes) -> str:
            return hmac.new(b"0123456789abcdef", body, hashlib.sha256).hexdigest()

        sent = it.last.body
        expected = {"key": THUMBPRINT, "bytes": len(sent), "body_hmac": of(sent)}
        assert (record["signature"], intent["signature"]) == (expected, expected)
        assert (record["body_hmac"], record["request_bytes"]) == (of(BODY), len(BODY))
        journal = b"".join(path.read_bytes() for path in (tmp_path / "journal").iterdir())
        assert HEADER not in journal
        assert base64url_encode(BODY)[:24] not in journal


def line(name: bytes, value: bytes) -> HeaderLine:
    """Return a header line."""
    return HeaderLine(name, value, Header(name))


def test_only_the_first_content_type_stays() -> None:
    """In its place and spelling."""
    lines = [line(b"A", b"1"), line(b"CONTENT-type", b"x"), line(b"B", b"2"), line(b"Content-Type", b"y")]

    assert [one.raw for one in with_content_type(lines, b"z")] == [b"A: 1", b"CONTENT-type: z", b"B: 2"]


def test_what_other_servers_read_as_a_content_type_goes_too() -> None:
    """Else one of them could take the JWS for what the caller has called it."""
    lines = [line(b"Content_Type", b"x"), line(b"A", b"1"), line(b"content.type", b"y")]

    assert [one.raw for one in with_content_type(lines, b"z")] == [b"Content-Type: z", b"A: 1"]


async def test_the_memory_of_both_bodies_is_counted_and_given_back(tmp_path: Path) -> None:
    """The JWS is held beside the body for a moment; without room for both nothing is sent."""
    body = bytes(30_000)
    async with signing(tmp_path / "a", server={"body_memory_bytes": 80_000}) as it:
        for _ in range(3):
            assert (await ask(it.port, post(body=body))).status == 200
    async with signing(tmp_path / "b", server={"body_memory_bytes": 60_000}) as it:
        reply = await ask(it.port, post(body=body))
        assert (reply.status, reply.problem["code"]) == (503, "overloaded")
        assert it.untouched


async def test_what_waits_for_a_signature_is_counted(tmp_path: Path) -> None:
    """A slow key has many of them waiting; one that there is no room for asks for no signature."""
    body = bytes(30_000)
    async with signing(tmp_path, keeper=None, server={"body_memory_bytes": 120_000}) as it, wire(it.port) as waiting:
        await waiting.send(post(body=body))
        await eventually(lambda: len(it.keeper.all(SignatureRequest)) == 1)
        assert it.gateway.admission.held_bytes >= len(body) + len(base64url_encode(body))

        assert (await ask(it.port, post(body=body))).problem["code"] == "overloaded"
        assert len(it.keeper.all(SignatureRequest)) == 1
        signer(it).abandon()
        await waiting.answer(method="POST")
        await eventually(lambda: it.gateway.admission.held_bytes == 0)
