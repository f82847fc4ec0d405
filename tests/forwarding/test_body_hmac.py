"""Which body it was: an HMAC in intent and record, so that whoever has the body can prove it."""

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from tests.forwarding.support import REFUSED, intents, post, recorded
from tests.upstream.support import OK, says
from tests.worker.support import proxy
from tests.worker.wire import ask, chunked, request, wire

KEY = b"0123456789abcdef0123456789abcdef"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def keyed(tmp_path: Path) -> dict[str, Any]:
    """Return what turns it on."""
    path = tmp_path / "body.key"
    path.touch(mode=0o600)
    path.write_bytes(KEY)
    return {"request_log": {"body_hmac_key_file": str(path)}}


def of(body: bytes) -> str:
    """Return the HMAC of *body*."""
    return hmac.new(KEY, body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("size", [1, 1024, 300_000])
async def test_a_held_body_is_in_intent_and_record(tmp_path: Path, keyed: dict[str, Any], size: int) -> None:
    """Known before it is sent, so that a crash does not take it."""
    body = bytes(range(256)) * (size // 256 + 1)
    async with proxy(tmp_path, **keyed) as it:
        assert (await ask(it.port, post(body=body))).status == 200

        assert (await recorded(it))["body_hmac"] == of(body)
        assert [intent["body_hmac"] for intent in intents(it)] == [of(body)]


async def test_a_body_in_chunks_is_the_body_not_the_chunks(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """However it was cut on the way, held or streamed."""
    for target in (b"/open/pay", b"/small/pay"):
        async with proxy(tmp_path / target[1:5].decode(), **keyed) as it:
            await ask(it.port, CHUNKED % target + chunked(b"one ", b"body " * 20, b"more"))

            assert (await recorded(it))["body_hmac"] == of(b"one " + b"body " * 20 + b"more")


async def test_a_streamed_body_is_in_the_record(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """It is not known when the intent is written."""
    async with proxy(tmp_path, **keyed) as it:
        assert (await ask(it.port, post(b"/small/pay", body=bytes(2_000_000)))).status == 200

        assert (await recorded(it))["body_hmac"] == of(bytes(2_000_000))
        assert [intent["body_hmac"] for intent in intents(it)] == [""]


async def test_a_body_that_is_sent_twice_is_one_body(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """Both intents say the same."""
    async with proxy(tmp_path, says(REFUSED), says(OK), **keyed) as it:
        assert (await ask(it.port, post(body=b"pay"))).status == 200

        assert (await recorded(it))["body_hmac"] == of(b"pay")
        assert [intent["body_hmac"] for intent in intents(it)] == [of(b"pay")] * 2


async def test_a_body_that_did_not_arrive_whole_has_none(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """Half of it would prove nothing."""
    async with proxy(tmp_path, **keyed) as it:
        async with wire(it.port) as caller:
            await caller.send(b"POST /open/pay HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
            caller.leave()
            record = await recorded(it)

        assert (record["body_hmac"], record["request_bytes"]) == ("", 4)


async def test_without_a_body_or_a_key_there_is_none(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """The field is there and empty."""
    async with proxy(tmp_path / "keyed", **keyed) as it:
        await ask(it.port, request(b"GET", b"/open/x"))
        assert (await recorded(it))["body_hmac"] == ""
    async with proxy(tmp_path / "plain") as it:
        await ask(it.port, post(body=b"pay"))
        assert (await recorded(it))["body_hmac"] == ""


async def test_the_key_stands_nowhere(tmp_path: Path, keyed: dict[str, Any]) -> None:
    """Not in the journal, and not in what a worker prints of itself."""
    async with proxy(tmp_path, **keyed) as it:
        await ask(it.port, post(body=b"pay"))
        await recorded(it)

        assert KEY not in b"".join(path.read_bytes() for path in (tmp_path / "journal").iterdir())
        assert KEY.decode() not in repr(it.gateway)
