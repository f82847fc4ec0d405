"""Handling of 401: whether a request is sent a second time; it is never sent a third time."""

import re
from typing import Final

from proxy.errors import ProxyError, Sent
from proxy.forwarding.migration import may_fall_back
from proxy.forwarding.send import Send, wait_for_token
from proxy.routing.plan import Plan
from proxy.routing.table import Route
from proxy.tokens.token import AccessToken
from proxy.upstream.response import UpstreamResponse

# RFC 6750 3.1; error_description may contain any text.
_INSUFFICIENT_SCOPE: Final = re.compile(rb'(?:^|[\s,])error\s*=\s*"?insufficient_scope"?(?:$|[\s,])', re.IGNORECASE)
# How much of a body is searched for remint_on.
PEEK_BYTES: Final = 4096


async def is_refusal(response: UpstreamResponse, route: Route) -> bool:
    """Return whether the bank refused the token: 401 (RFC 6750 3.1) but not insufficient_scope, or remint_on."""
    if response.status == 401:
        return not any(
            name.lower() == b"www-authenticate" and _INSUFFICIENT_SCOPE.search(value)
            for name, value in response.headers
        )
    for rule in route.remint_on:
        if rule.status == response.status and (not rule.body or rule.body.encode() in await response.peek(PEEK_BYTES)):
            return True
    return False


async def after_refusal(first: Send, response: UpstreamResponse) -> tuple[Send, UpstreamResponse]:
    """Return the send and the response for the caller, after *response* refused the token of *first*.

    The response is kept until token, connection and intent of the second send are ready; if one of them can't be had,
    the caller gets the bank's response. Raises only errors of the second send itself.
    """
    exchange, route = first.exchange, first.plan.route
    first.attempt.refused = True
    if first.body is not None and first.body.held is None:
        # The caller gets the answer when there is a new token: it may try again at once.
        await _replaced(first)
        exchange.note = "body_not_held"
        return first, response
    if response.complete:
        # Its connection serves others meanwhile, this second send too, so that a hundred simultaneous refusals don't
        # exhaust the pool. From here on, a disconnect of the caller must not abort it.
        first.side.call_nothing_when_left()
        response.release()
    plan, token = await _another_token(first)
    if token is None:
        exchange.note = "no_newer_token"
    if token is None or first.side.left:
        return first, response
    try:
        second = await first.again(plan, token)
    except ProxyError as error:
        exchange.note = error.code
        return first, response
    response.release()  # closes the connection if the body is incomplete
    fallback_used = second.plan is not first.plan  # also if the newer token has expired meanwhile
    if fallback_used:
        exchange.note = "fell_back"
    try:
        response = await second.once()
    finally:
        exchange.replayed = second.attempt.sent is not Sent.NO
    second.attempt.refused = await is_refusal(response, route)
    _report_replay(second, fallback_used=fallback_used)
    return second, response


def _report_replay(second: Send, *, fallback_used: bool) -> None:
    """Report the result of *second* to the keeper: a newer token is judged by it, a cached legacy token is not.

    A legacy token is refused for the first time here, and replaced for the next request.
    """
    tokens, route, refused = second.gateway.tokens, second.plan.route.name, second.attempt.refused
    if not fallback_used:
        tokens.replayed(second.token, route, second.source, refused_again=refused)
        if refused and second.plan.fallback is not None:
            tokens.refuse_behind(second.token, route, second.source)
    elif refused:
        tokens.refuse(second.token, route, second.source)
    if refused:
        second.exchange.note = "legacy_token_refused" if fallback_used else "fresh_token_refused"


async def _another_token(refused: Send) -> tuple[Plan, AccessToken | None]:
    """Return the plan after *refused*, and the token for it, None if there is none.

    With a fallback, the request does not wait for a modern mint: it takes the newer token if there is one, else the
    legacy one. The bank must have accepted the newer one from this caller before: if modern refuses every token, of all
    callers or of this one, the caller would be sent there twice and get a 401 that legacy would have avoided.
    """
    exchange, gateway, plan = refused.exchange, refused.gateway, refused.plan
    if plan.fallback is None:
        return plan, await _replaced(refused)
    newer = gateway.tokens.newer(refused.token)
    if newer is not None and gateway.tokens.proven(plan.token_key, plan.route.name, exchange.caller):
        return plan, newer
    if newer is None:
        gateway.tokens.refuse_behind(refused.token, plan.route.name, refused.source)
    if not await may_fall_back(gateway, exchange, plan.fallback):
        return plan, None
    try:
        # Available at once, except a legacy token being replaced, for which every request on legacy waits.
        return plan.fallback, await wait_for_token(gateway, exchange, plan.fallback)
    except ProxyError:
        return plan.fallback, None


async def _replaced(refused: Send) -> AccessToken | None:
    """Wait for the token after that of *refused*, and return it, None if there is none."""
    exchange, gateway = refused.exchange, refused.gateway
    started = gateway.monotonic()
    until = exchange.started + gateway.exchange_timeout
    token = await gateway.tokens.replace(refused.token, refused.plan.route.name, refused.source, until=until)
    exchange.waited += gateway.monotonic() - started
    return token
