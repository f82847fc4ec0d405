from dataclasses import replace

import pytest

from proxy.upstream.single_get import SingleAnswer, get_once
from tests.upstream.support import CLOCK, UPSTREAM, bank, says

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def test_the_head_is_whole() -> None:
    """Byte for byte: a request line, four lines that each end in CRLF, and the empty line (RFC 9112 2.1)."""
    async with bank(says(ANSWER)) as it:
        answer = await get_once(
            replace(UPSTREAM, port=it.port), "/a?b=c", host_header="api.example.com:8443", token=b"t",
            clock=CLOCK, seconds=10.0, most_bytes=100,
        )  # fmt: skip

    [request] = it.requests
    assert request.head == (
        b"GET /a?b=c HTTP/1.1\r\nHost: api.example.com:8443\r\n"
        b"Accept: application/json\r\nAccept-Encoding: identity\r\nAuthorization: Bearer t\r\n\r\n"
    )
    assert answer == SingleAnswer(status=200, content_type="application/json", body=b"{}", encoded=False)


@pytest.mark.parametrize(("coding", "encoded"), [(b"gzip", True), (b"Identity", False), (b"", False), (b"br", True)])
async def test_an_answer_that_is_encoded_says_so(coding: bytes, *, encoded: bool) -> None:
    """Its bytes are not what the server means."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 1\r\n\r\nx" % coding
    async with bank(says(head)) as it:
        answer = await get_once(
            replace(UPSTREAM, port=it.port), "/", host_header="a", token=b"t", clock=CLOCK, seconds=10.0, most_bytes=100
        )

    assert answer.encoded == encoded
