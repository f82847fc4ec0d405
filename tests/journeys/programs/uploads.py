"""`python uploads.py CLIENT URL BYTES CODING [BYTES CODING ...]`: uploads so much each time, prints the status, or 0.

CODING is fixed or chunked.
"""

import asyncio
import http.client
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests
import urllib3

PIECE = bytes(65536)

Upload = Callable[[str, int, bool], int]


def pieces(size: int) -> Iterator[bytes]:
    """Yield *size* bytes: clients frame an iterator's as chunks."""
    for _ in range(size // len(PIECE)):
        yield PIECE


def with_requests(url: str, size: int, chunked: bool) -> int:  # noqa: FBT001 - all clients' signature
    """Upload with requests as it comes."""
    return requests.post(url, data=pieces(size) if chunked else bytes(size), timeout=60).status_code


def with_httpx(url: str, size: int, chunked: bool) -> int:  # noqa: FBT001
    """Upload with httpx as it comes."""
    return httpx.post(url, content=pieces(size) if chunked else bytes(size), timeout=60).status_code


def with_urllib3(url: str, size: int, chunked: bool) -> int:  # noqa: FBT001
    """Upload with urllib3 as it comes."""
    return urllib3.PoolManager(timeout=60).request("POST", url, body=pieces(size) if chunked else bytes(size)).status


def with_http_client(url: str, size: int, chunked: bool) -> int:  # noqa: FBT001
    """Upload with the standard library's http.client."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    body = pieces(size) if chunked else bytes(size)
    connection.request("POST", parts.path, body=body, encode_chunked=chunked, headers=_framing(chunked=chunked))
    return connection.getresponse().status


def _framing(*, chunked: bool) -> dict[str, str]:
    return {"Transfer-Encoding": "chunked"} if chunked else {}


def with_aiohttp(url: str, size: int, chunked: bool) -> int:  # noqa: FBT001
    """Upload with aiohttp's client as it comes."""

    async def several() -> AsyncIterator[bytes]:
        for piece in pieces(size):
            yield piece

    async def upload() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=several() if chunked else bytes(size)) as answer,
        ):
            return answer.status

    return asyncio.run(upload())


CLIENTS: dict[str, Upload] = {
    "requests": with_requests,
    "httpx": with_httpx,
    "urllib3": with_urllib3,
    "http.client": with_http_client,
    "aiohttp": with_aiohttp,
}
ERRORS = (
    requests.RequestException, httpx.HTTPError, urllib3.exceptions.HTTPError, http.client.HTTPException,
    aiohttp.ClientError, OSError,
)  # fmt: skip


def main(client: str, url: str, uploads: list[str]) -> None:
    """Make the uploads one after the other."""
    for size, coding in zip(uploads[::2], uploads[1::2], strict=True):
        try:
            status = CLIENTS[client](url, int(size), coding == "chunked")
        except ERRORS as error:
            sys.stderr.write(f"{error!r}\n")
            status = 0
        sys.stdout.write(f"{status}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
