"""The 401 protocol: when a request is sent a second time, and never a third."""

from proxy.errors import ProxyError, Sent
from proxy.forwarding.send import Send
from proxy.settings.snapshot import RemintValues
from proxy.upstream.answer import Answer

# How much of a body is looked at for remint_on.
PEEK_BYTES = 4096


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

    The answer is kept until token, connection and intent of the second send stand; if one of them can't be had, the
    bank's own answer is the caller's. Raises only what happens once the second send has begun.
    """
    exchange, route, board = first.exchange, first.plan.route, first.gateway.board
    first.attempt.refused = True
    if first.payload.held is None:
        board.refuse(first.token, route.name)
        exchange.note = "body_not_held"
        return first, answer
    if answer.complete:
        # Its connection serves others meanwhile, this second send too: a hundred refusals at once don't starve each
        # other of connections. From here on the caller's leaving must not cut it off.
        first.side.cut_off_when_left(_nothing)
        answer.release()
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
    answer.release()  # nobody waits for what of it has not come: its connection is closed then
    try:
        answer = await second.once()
    finally:
        exchange.replayed = second.attempt.sent is not Sent.NO
    second.attempt.refused = await is_refusal(answer, route.remint_on)
    if second.attempt.refused:
        exchange.note = "fresh_token_refused"
    board.replayed(token.key, route.name, refused_again=second.attempt.refused)
    return second, answer


def _nothing() -> None:
    """Cut nothing off."""
