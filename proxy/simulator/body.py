"""Reads and hashes the body of a request."""

import hashlib

from aiohttp import web

from proxy.simulator.call import Call

# Of a request's body this much is kept for the endpoint, enough for any upload of a test; all of it is hashed.
_KEPT_BODY = 64 << 20
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


async def read_body(request: web.BaseRequest, call: Call) -> bool:
    """Read and hash the body; return whether all of it came."""
    content = request.content
    if content.at_eof():
        call.sha256 = call.received.body_sha256 = _EMPTY_SHA256
        return True
    if request.transport is not None and (call.header("Expect") or "").lower() == "100-continue":
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    digest = hashlib.sha256()
    kept: list[bytes] = []
    whole = True
    try:
        while piece := await content.readany():
            digest.update(piece)
            if call.size < _KEPT_BODY:
                kept.append(piece)
            call.size += len(piece)
    except (OSError, web.RequestPayloadError):
        whole = False
    call.body = b"".join(kept)
    call.sha256 = call.received.body_sha256 = digest.hexdigest()
    call.received.body_size = call.size
    return whole
