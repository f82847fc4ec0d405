"""The 401 protocol: when a request is sent a second time, and never a third."""

from proxy.errors import ProxyError
from proxy.forwarding.send import Send
from proxy.settings.snapshot import RemintValues
from proxy.upstream.answer import Answer

# How much of a body is looked at for remint_on, and how much of a refused answer is read to keep its connection.
PEEK_BYTES = 4096
DRAIN_BYTES = 65536


async def is_refusal(answer: Answer, remint_on: tuple[RemintValues, ...]) -> bool:
    """Return whether the bank refused the token: 401 (RFC 6750 3.1) but not insufficient_scope, or remint_on."""
    if answer.status == 401:
        return not any(
            name.lower() == b"www-authenticate" and b"insufficient_scope" in value for name, value in answer.headers
        )
    for rule in remint_on:
        if rule.status == answer.status and (not rule.body or rule.body.encode() in await answer.peek(PEEK_BYTES)):
            return True
    return False


async def after_refusal(first: Send, answer: Answer) -> tuple[Send, Answer]:
    """Return the send and the answer that the caller gets, after *answer* refused the token of *first*.

    The answer stays unread until token, connection and intent of the second send stand; if one of them can't be had,
    the bank's own answer is the caller's. Raises only what happens once the second send has begun.
    """
    exchange, route, board = first.exchange, first.plan.route, first.gateway.board
    first.attempt.refused = True
    if first.payload.held is None:
        board.refuse(first.token, route.name)
        exchange.note = "body_not_held"
        return first, answer
    began = first.gateway.clock.monotonic()
    token = await board.replace(first.token, route.name, until=exchange.began + first.gateway.exchange_timeout)
    exchange.waited += first.gateway.clock.monotonic() - began
    if token is None or first.side.left:
        exchange.note = "no_newer_token" if token is None else ""
        return first, answer
    try:
        second = await first.again(token)
    except ProxyError as error:
        exchange.note = error.code
        return first, answer
    await answer.drain(DRAIN_BYTES)
    exchange.replayed = True
    answer = await second.once()
    second.attempt.refused = await is_refusal(answer, route.remint_on)
    if second.attempt.refused:
        exchange.note = "fresh_token_refused"
    board.replayed(token.key, route.name, refused_again=second.attempt.refused)
    return second, answer
