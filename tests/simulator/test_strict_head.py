import pytest

from proxy.simulator.server import Bank
from proxy.simulator.strict_head import head_fault
from tests.simulator.test_delivery import raw

LINE = b"GET /payment/helloworld HTTP/1.1\r\n"
END = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "host", [b"127.0.0.1:8090Accept: application/json", b"a b", b"a/b", b"", b"a:66000", b"[::1", b"a@b"]
)
async def test_a_host_that_is_more_than_a_name_is_refused(bank: Bank, host: bytes) -> None:
    """As by the bank's own servers, and by nginx: the first one is a line whose CRLF is missing."""
    answer = await raw(bank, LINE + b"Host: " + host + b"\r\n" + END)

    assert answer.startswith(b"HTTP/1.1 400 ")
    [received] = bank.world.seen()
    assert (received.status, received.note[:11]) == (400, "Host is not")


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a\r\n X: folded\r\n",
        b"Host: a\nX: b\r\n",
        b"Host: a\r\nX: \x01\r\n",
        b"Host: a\r\nX : b\r\n",
        b"Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_what_the_parser_refuses_arrives_nowhere(bank: Bank, lines: bytes) -> None:
    """Here aiohttp is as strict as it has to be; a newer one has to be so too."""
    answer = await raw(bank, LINE + lines + END)

    assert answer[8:13] == b" 400 "
    assert bank.world.seen() == []


@pytest.mark.parametrize("host", ["a", "127.0.0.1", "127.0.0.1:8090", "[::1]", "[::1]:8090", "a:", "bank.test:443"])
async def test_a_whole_head_is_taken(bank: Bank, host: str) -> None:
    """Names and addresses, with a port and without."""
    answer = await raw(bank, LINE + f"Host: {host}\r\n".encode() + END)

    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("target", ["/a?b=%20c", "/", "*"])
def test_a_target_is_a_path(target: str) -> None:
    """Or the whole server, of OPTIONS."""
    assert head_fault(target, ((b"Host", b"a"),)) == ""


@pytest.mark.parametrize("target", ["http://a/b", "/a\x7f", "/a b", "", "/ä", "a"])
def test_another_target_is_refused(target: str) -> None:
    """The proxy sends the origin-form only (RFC 9112 3.2.1)."""
    assert head_fault(target, ((b"Host", b"a"),)).startswith("the target is no path")
