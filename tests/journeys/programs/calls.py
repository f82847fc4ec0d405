"""`python calls.py CLIENT BASE METHOD PATH [METHOD PATH ...]`: makes each call once and prints its status, or 0."""

import sys
from collections.abc import Callable

import httpx
import requests
import urllib3

BODY = b'{"amount": 1}'

Call = Callable[[str, str, bytes | None], int]


def with_requests() -> Call:
    """Return a call with a requests.Session as it comes."""
    session = requests.Session()
    return lambda method, url, body: session.request(method, url, data=body, timeout=30).status_code


def with_httpx() -> Call:
    """Return a call with a httpx.Client as it comes."""
    client = httpx.Client(timeout=30)
    return lambda method, url, body: client.request(method, url, content=body).status_code


def with_urllib3() -> Call:
    """Return a call with a urllib3.PoolManager as it comes: it tries again up to three times, GET but not POST."""
    pool = urllib3.PoolManager(timeout=30)
    return lambda method, url, body: pool.request(method, url, body=body).status


CLIENTS = {"requests": with_requests, "httpx": with_httpx, "urllib3": with_urllib3}
ERRORS = (requests.RequestException, httpx.HTTPError, urllib3.exceptions.HTTPError)


def main(client: str, base: str, calls: list[str]) -> None:
    """Make the calls one after the other, on kept connections where the client keeps them."""
    call = CLIENTS[client]()
    for method, path in zip(calls[::2], calls[1::2], strict=True):
        try:
            status = call(method, base + path, BODY if method == "POST" else None)
        except ERRORS:
            status = 0
        sys.stdout.write(f"{status}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
