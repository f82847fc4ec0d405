"""The proxy that anybody would write first: aiohttp on both sides, bodies read whole. What it costs, not what to do.

`python -m bench.naive PORT URL CA_FILE TOKEN_FILE [KEY_FILE]`; with a key, it serves TLS by CA_FILE's certificate.
"""

import ssl
import sys
from pathlib import Path

import aiohttp
from aiohttp import web

from proxy.worker.main import loop_factory

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "authorization"})
_LARGEST_BODY = 1 << 30
_SESSION = web.AppKey("session", aiohttp.ClientSession)


def application(url: str, *, token: str, trust: ssl.SSLContext) -> web.Application:
    """Return the proxy to *url*."""

    async def handle(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Authorization"] = f"Bearer {token}"
        body = await request.read()
        async with request.app[_SESSION].request(
            request.method, url + request.path_qs, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def begin(app: web.Application) -> None:
        app[_SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=trust), auto_decompress=False)

    async def end(app: web.Application) -> None:
        await app[_SESSION].close()

    app = web.Application(client_max_size=_LARGEST_BODY)
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_startup.append(begin)
    app.on_cleanup.append(end)
    return app


def _main(port: str, url: str, ca_file: str, token_file: str, key_file: str = "") -> None:
    app = application(url, token=Path(token_file).read_text(), trust=ssl.create_default_context(cafile=ca_file))
    tls = None
    if key_file:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(ca_file, key_file)
    # Without aiohttp's access log, which would cost it another 34 us a request, and on the faster loop.
    loop = loop_factory()()
    web.run_app(
        app, host="127.0.0.1", port=int(port), ssl_context=tls, access_log=None, loop=loop, print=lambda _: None
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])
