"""Signs the body of a request as a whole: it becomes the payload of a compact JWS (RFC 7515 7.1), byte for byte.

The bank wants the header to be exactly {"alg":"RS256"}, and the JWS in place of the body of POST and PUT.
"""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from proxy.forwarding.body import RequestBody
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import Gateway
from proxy.request_summary import BodySignature
from proxy.routing.headers import Header, HeaderLine
from proxy.routing.request_head import RequestHead
from proxy.text import base64url

# {"alg":"RS256"} in base64url.
HEADER: Final = b"eyJhbGciOiJSUzI1NiJ9"
# Bytes that are encoded and hashed at a time, some 0.1 ms: a large body must not block the other requests. A multiple
# of 3, so that the pieces in base64 are one text.
_PIECE: Final = 49_152
_CONTENT_TYPE: Final = b"Content-Type"


async def sign_body(
    gateway: Gateway, exchange: Exchange, head: RequestHead, body: RequestBody, *, signed_type: bytes
) -> None:
    """Replace the held *body* by a JWS and its Content-Type by *signed_type*; an empty one stays as it is.

    Nothing else of *head* changes. Raises Overloaded or SignatureUnavailable; nothing was sent then.
    """
    payload = body.held
    if not payload:
        return
    body.reserve(_input_size(payload))  # for all the time that a slow key lets it wait
    digest = sha256()
    pieces: list[bytes] = []
    for piece in signing_input(payload):
        if pieces:
            await asyncio.sleep(0)
        digest.update(piece)
        pieces.append(piece)
    signature, key = await gateway.signer.sign(exchange.chosen.route, digest.digest(), caller=exchange.caller)
    last = b"." + signature.encode("ascii")
    body.reserve(len(last))
    pieces.append(last)
    signed = b"".join(pieces)
    body.held = signed
    exchange.signature = BodySignature(key, size=len(signed), body_hmac=_hmac(gateway, signed))
    head.passed = with_content_type(head.passed, signed_type)


def signing_input(payload: bytes) -> Iterator[bytes]:
    """Yield the signing input for *payload* (RFC 7515 5.1), the header and the payload in base64url, in pieces."""
    before = HEADER + b"."
    for start in range(0, len(payload), _PIECE):
        yield before + base64url(payload[start : start + _PIECE])
        before = b""


def _input_size(payload: bytes) -> int:
    return len(HEADER) + 1 + (len(payload) * 4 + 2) // 3


def with_content_type(lines: list[HeaderLine], value: bytes) -> list[HeaderLine]:
    """Return header *lines* whose only Content-Type has *value*, where the first one was, else at the end."""
    found = [line for line in lines if _is(line, b"content-type")]
    name = next((line.name for line in found if b"-" in line.name), _CONTENT_TYPE)
    new = HeaderLine(name, value, Header(name))
    if not found:
        return [*lines, new]
    return [new if line is found[0] else line for line in lines if line is found[0] or line not in found]


def _is(line: HeaderLine, name: bytes) -> bool:
    """Return whether *line* has *name*, also for servers that read `_` or `.` as `-`."""
    return line.header is not None and line.header.alike == name


def _hmac(gateway: Gateway, signed: bytes) -> str:
    if gateway.body_digest is None:
        return ""
    digest = gateway.body_digest()
    digest.update(signed)
    return digest.hexdigest()
