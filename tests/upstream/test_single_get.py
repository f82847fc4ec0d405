from dataclasses import replace

from proxy.upstream.single_get import get_once
from tests.upstream.support import CLOCK, UPSTREAM, bank, says

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def test_the_head_is_whole() -> None:
    """Byte for byte: a request line, three lines that each end in CRLF, and the empty line (RFC 9112 2.1)."""
    async with bank(says(ANSWER)) as it:
        answer = await get_once(
            replace(UPSTREAM, port=it.port), "/a?b=c", host_header="api.example.com:8443", token=b"t",
            clock=CLOCK, seconds=10.0, most_bytes=100,
        )  # fmt: skip

    [request] = it.requests
    assert request.head == (
        b"GET /a?b=c HTTP/1.1\r\nHost: api.example.com:8443\r\n"
        b"Accept: application/json\r\nAuthorization: Bearer t\r\n\r\n"
    )
    assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b"{}")
