"""Sends the response to the caller: the bank's unchanged, or the proxy's own."""

from typing import Final

from proxy.errors import BadRequest, HeadersTooLarge, ProxyError, TargetTooLong
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.headers import CLOSES, STAYS_OPEN, added_headers, relayed_head
from proxy.forwarding.migration import pin_retry
from proxy.forwarding.problem import error_status, problem_document, problem_headers
from proxy.forwarding.send import Send, aborted_by_caller
from proxy.settings.methods import SAFE_METHODS
from proxy.upstream.response import UpstreamResponse

# If the caller has disconnected, up to this much of the response is read, so that the record shows how it ended.
_DISCARDED_BYTES: Final = 1048576
# A response up to this size is buffered before its head is sent: if it is truncated, the caller gets 502. wget and
# urllib3 retry by themselves if a started response is cut, and PHP's streams take the beginning for the whole.
_GATHERED_BYTES: Final = 65536
# A chunked response has no known length, and may be a stream with long pauses.
_GATHERED_SECONDS: Final = 0.5


async def relay(send: Send, response: UpstreamResponse) -> None:
    """Send *response* to the caller, its body as it arrives.

    A body that the bank truncates is truncated for the caller too, so that it can't pass for a complete one; a small
    one is not started: raises UpstreamReset, UpstreamBadResponse or UpstreamTimedOut in that case.
    """
    side, exchange = send.side, send.exchange
    exchange.origin, exchange.status, exchange.answer_lines = "bank", response.status, response.head.lines
    exchange.answer_token = send.token.value.encoded
    if response.status >= 500:
        await pin_retry(send.gateway, exchange)
    if side.left:
        exchange.caller_left = True
        await response.drain(_DISCARDED_BYTES)
        return
    if not response.complete and (response.content_length is None or response.content_length <= _GATHERED_BYTES):
        await _gather(send, response)
    if response.complete:
        _hand_over(send, response)
        if side.write_would_block():
            await _drained(send)
    else:
        await _stream(send, response)


async def _stream(send: Send, response: UpstreamResponse) -> None:
    """Relay the body as it arrives."""
    side, exchange = send.side, send.exchange
    head = _response_head(send, response)
    cut: ProxyError | None = None
    try:
        try:
            side.write(head)
            await _relay_body(send, response)
        except CallerLeft:
            exchange.caller_left = True
        except ProxyError as error:
            if aborted_by_caller(side, exchange, error):
                exchange.caller_left = True
            else:
                cut = error
        if cut is not None:
            exchange.code, exchange.cause = cut.code, cut.cause
            await pin_retry(send.gateway, exchange)
            side.abort()
        elif exchange.caller_left:
            await response.drain(0 if send.attempt.refused else _DISCARDED_BYTES)
    finally:
        response.release()


def _hand_over(send: Send, response: UpstreamResponse) -> None:
    """Write a complete *response* to the caller and release its connection."""
    side, exchange = send.side, send.exchange
    try:
        exchange.response_bytes = len(response.body)
        side.write(_response_head(send, response) + response.body)
    finally:
        if exchange.method in SAFE_METHODS:
            side.call_nothing_when_left()  # the connection may serve another request from here on
        response.release()


async def _drained(send: Send) -> None:
    """Wait until the caller's write buffer has room."""
    try:
        await send.side.drain()
    except CallerLeft:
        send.exchange.caller_left = True


async def _gather(send: Send, response: UpstreamResponse) -> None:
    """Buffer the whole body (a chunked one only for a short time), and leave it to be read."""
    started = send.gateway.monotonic()
    try:
        if response.content_length is None:
            await response.gather(_GATHERED_BYTES, until=started + _GATHERED_SECONDS)
        else:
            await response.peek(_GATHERED_BYTES)
    finally:
        send.exchange.waited += send.gateway.monotonic() - started


async def _relay_body(send: Send, response: UpstreamResponse) -> None:
    side, exchange, monotonic = send.side, send.exchange, send.gateway.monotonic
    chunked = not send.head.http_1_0 and response.content_length is None
    while True:
        started = monotonic()
        piece = await response.read()
        if not piece:
            break
        exchange.response_bytes += len(piece)
        side.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await side.drain()
        exchange.waited += monotonic() - started
    if chunked:
        side.write(b"0\r\n\r\n")
    await side.drain()


def _response_head(send: Send, response: UpstreamResponse) -> bytes:
    side, exchange = send.side, send.exchange
    status = f"received-status={exchange.status}"
    if exchange.note or exchange.replayed:  # the note says how a refused token was handled
        status += f'; details="{exchange.note or "replayed"}"'
    head = relayed_head(response.head, exchange.answer_token) + added_headers(exchange, status)
    if response.content_length is None and not response.bodiless:
        if response.complete:
            head += b"Content-Length: " + str(len(response.body)).encode("ascii") + b"\r\n"
        elif send.head.http_1_0:
            side.close_after()
        else:
            head += b"Transfer-Encoding: chunked\r\n"
    return head + (CLOSES if side.will_close() else STAYS_OPEN)


def refuse(side: CallerSide, exchange: Exchange, error: ProxyError) -> None:
    """Send *error* as a problem document (only the head for HEAD); if a response was started, abort the connection."""
    if side.started:
        side.abort()
        return
    if isinstance(error, (BadRequest, HeadersTooLarge, TargetTooLong)):
        side.close_after()  # the start of the next request is uncertain
    if side.raw.version == (1, 0):
        side.close_after()  # the default of HTTP/1.0
    body = problem_document(error, exchange)
    lines = [
        f"HTTP/1.1 {error.status} {error.title}\r\nContent-Type: application/problem+json\r\n".encode("ascii"),
        b"Content-Length: %d\r\nCache-Control: no-store\r\n" % len(body),
        *problem_headers(error),
        added_headers(exchange, error_status(error)),
        CLOSES if side.will_close() else STAYS_OPEN,
    ]
    exchange.response_bytes = len(body)
    side.write(b"".join(lines) + (b"" if exchange.method == "HEAD" else body))
