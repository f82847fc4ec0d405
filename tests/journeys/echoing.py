"""A token endpoint and an API that give back what they were sent, in every place of an answer that may be shown."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, unquote

# What the endpoint hands out where it does not refuse; opaque, so that no pattern recognises it.
TOKEN = "canary-of-an-opaque-token-of-the-echo~8Zk1.q-w_2"
# More than the token endpoint was sent: what a confused one may say.
CARD, IBAN = "4111111111111111", "DE89370400440532013000"
_JSON = "application/json"


def _granted(said: str, **more: object) -> str:
    return json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 900, "scope": said, **more})


def _refused(said: str, error: str = "invalid_client") -> str:
    return json.dumps({"error": error, "error_description": said})


# By the last segment of the path: status, Content-Type and body, of the words to be given back.
TOKEN_ANSWERS: dict[str, tuple[int, str, Callable[[str], str]]] = {
    "description": (401, _JSON, _refused),
    "code": (400, _JSON, lambda said: _refused("", error=said)),
    "card": (400, _JSON, lambda said: _refused(f"no account {CARD} or {IBAN}, {said}")),
    "unavailable": (503, _JSON, _refused),
    "scope": (200, _JSON, _granted),
    "audience": (200, _JSON, lambda said: json.dumps({"access_token": said, "token_type": said})),
    "html": (200, "text/html", lambda said: f"<p>{said}</p>"),
    "type": (502, "text/{said}", lambda said: said),
    "redirect": (302, "text/plain", lambda said: said),
}


class Echo:
    """A server on *url*; *received* is every byte that it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.received = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received += head + body
            authorization = headers.get("authorization", "")
            path = lines[0].split()[1]
            if path.startswith("/token/"):
                writer.write(_token_answer(path.rpartition("/")[2], authorization, body))
            else:
                writer.write(_api_answer(authorization))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def _token_answer(name: str, authorization: str, body: bytes) -> bytes:
    status, kind, made = TOKEN_ANSWERS[name]
    form = dict(parse_qsl(body.decode()))
    basic = authorization.removeprefix("Basic ")
    said = " ".join(filter(None, (form.get("client_assertion", ""), basic, unquote(basic))))
    text = made(said)
    lines = (
        f"HTTP/1.1 {status} {said}", f"Content-Type: {kind.format(said=said)}", f"Location: /token/{name}?said={said}",
        f"WWW-Authenticate: {said}", f"Content-Length: {len(text.encode())}", "Connection: close", "", text,
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def _api_answer(authorization: str) -> bytes:
    token = authorization.removeprefix("Bearer ")
    lines = (
        f"HTTP/1.1 403 No {token}", "Content-Type: text/plain", f"request-id: {token}", f"X-Debug: {authorization}",
        f'WWW-Authenticate: Bearer error_description="{token}"', f"Location: https://elsewhere.example/?t={token}",
        "Content-Length: 3", "Connection: close", "", "no.",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    """Run it for the block."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield echo
    finally:
        server.close()
        await server.wait_closed()
