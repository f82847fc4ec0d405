"""Puts an answer on the wire, whole or broken as a fault wants it."""

import asyncio
import socket
import struct
from itertools import islice

from aiohttp import HttpVersion11, web

from proxy.simulator.answer import Answer
from proxy.simulator.faults import Fault, FaultKind
from proxy.simulator.world import World

_LINGER_NOT = struct.pack("ii", 1, 0)


async def deliver(
    request: web.BaseRequest, answer: Answer, *, broken: Fault | None, world: World
) -> web.StreamResponse:
    """Send *answer*; return what aiohttp wants to have from a handler."""
    kind = None if broken is None else broken.kind
    if kind is FaultKind.RESET:
        return reset(request)
    if kind is FaultKind.CLOSE:
        return close(request)
    headers = {**answer.headers, "Date": world.http_date(), "Server": "simulator"}
    if broken is not None and kind in (FaultKind.TRUNCATED, FaultKind.STALLED):
        await _half(request, answer, headers)
        if kind is FaultKind.STALLED:
            await world.clock.sleep(broken.seconds)
        return close(request)
    if isinstance(answer.body, bytes):
        response: web.StreamResponse = web.Response(status=answer.status, headers=headers, body=answer.body)
    else:
        response = await _stream(request, answer, headers)
    if kind is FaultKind.HANG_UP:
        await response.prepare(request)
        await response.write_eof()
        close(request)
    return response


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection with a TCP reset."""
    transport = request.transport
    if transport is not None:
        peer: socket.socket | None = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    return web.Response()


def close(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection after what was written, without another word."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _stream(request: web.BaseRequest, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
    response = _head(request, answer, headers, size=answer.size)
    await response.prepare(request)
    if request.method != "HEAD":
        for block in answer.body:
            await response.write(block)  # type: ignore[arg-type]  # only iterators come here
            await asyncio.sleep(0)  # a fast reader must not starve the others
    return response


async def _half(request: web.BaseRequest, answer: Answer, headers: dict[str, str]) -> None:
    """Send the head and half of the body: of an endless stream, or one of unknown size, three blocks."""
    if isinstance(answer.body, bytes):
        size: int | None = max(len(answer.body), 2)
        blocks = iter([answer.body[: len(answer.body) // 2]])
    else:
        size = answer.size
        blocks = islice(answer.body, 3)
    response = _head(request, answer, headers, size=size)
    await response.prepare(request)
    for block in blocks:
        await response.write(block)


def _head(request: web.BaseRequest, answer: Answer, headers: dict[str, str], *, size: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    if size is not None:
        response.content_length = size
    elif request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response
