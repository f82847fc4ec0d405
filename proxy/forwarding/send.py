"""One send to the bank: made ready completely, then done once."""

import asyncio
from dataclasses import dataclass

from proxy.errors import InternalError, ProxyError, Sent, TokenUnavailable, UpstreamReset
from proxy.forwarding.body import Payload
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.exchange import Attempt, Exchange
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.headers import outbound_head
from proxy.forwarding.migrated import hold_side
from proxy.routing.head import RequestHead
from proxy.routing.plan import Plan
from proxy.settings.methods import SAFE_METHODS
from proxy.tokens.token import AccessToken
from proxy.upstream.answer import Answer
from proxy.upstream.connection import Connection
from proxy.upstream.upload import PIECE_BYTES

# An enum's member costs a call each time it is looked up in its class.
_NO, _YES, _UNKNOWN = Sent


@dataclass(slots=True)
class Send:
    """A send whose token, connection and intent stand."""

    gateway: Gateway
    side: CallerSide
    exchange: Exchange
    payload: Payload
    head: RequestHead
    plan: Plan
    token: AccessToken
    connection: Connection
    attempt: Attempt

    async def once(self) -> Answer:
        """Send, and return the answer's head; raises UpstreamReset, UpstreamBadResponse, UpstreamTimedOut, CallerLeft.

        `attempt.sent` tells afterwards, however it ended, whether the bank may have the request.
        """
        gateway, exchange, connection, attempt = self.gateway, self.exchange, self.connection, self.attempt
        monotonic, held = gateway.clock.monotonic, self.payload.held
        began = monotonic()
        try:
            self._check(began)
            head = outbound_head(self.head, self.plan, self.token, held=None if held is None else len(held))
        except BaseException:
            connection.release()
            raise
        if exchange.method in SAFE_METHODS:
            self.side.cut_off_when_left(connection.abort)
        elif self.plan.retry:
            self.side.cut_off_when_left(self._hold_side)
        attempt.sent = _UNKNOWN
        try:
            deadline = exchange.began + gateway.exchange_timeout
            if held is not None and len(held) <= PIECE_BYTES:  # without a coroutine: nearly every request
                to_head = exchange.method == "HEAD"
                answer = await connection.send_whole(head + held, to_head=to_head, now=began, deadline=deadline)
            else:
                body = self.payload.stream() if held is None else held
                answer = await connection.send(
                    head, body, method=exchange.method, chunked=self.head.chunked, deadline=deadline
                )
        except asyncio.CancelledError:
            connection.abort()
            raise
        except UpstreamReset:
            if self.side.left and exchange.method in SAFE_METHODS:  # we cut it off ourselves
                raise CallerLeft from None
            raise
        finally:
            waited = monotonic() - began
            exchange.waited += waited
            attempt.wait_ms = waited * 1000
            if not connection.sent:
                attempt.sent = _NO
        attempt.sent = _YES
        attempt.status = answer.status
        return answer

    def _check(self, now: float) -> None:
        """Look once more, right before the bytes are written at monotonic *now*: the last lock on every token."""
        if self.plan.origin not in self.token.origins:
            raise InternalError("The token does not belong to this upstream.", cause=f"token for {self.token.key!r}")
        if now >= self.token.expires:
            raise TokenUnavailable("The token expired before the request could be sent.", retry_after=1)
        if self.side.left:
            raise CallerLeft

    def _hold_side(self) -> None:
        """Pin retries at once: a caller that gave up may try again long before the bank has answered."""
        if not self.attempt.refused:
            hold_side(self.gateway, self.exchange)

    async def again(self, plan: Plan, token: AccessToken) -> "Send":
        """Return a second send of the same request by *plan* with *token*, made ready; raises as `prepare`."""
        exchange = self.exchange
        before = exchange.plan, exchange.given_up
        if plan is not self.plan:
            exchange.plan, exchange.given_up = plan, self.plan
        try:
            return await prepare(
                self.gateway, self.side, exchange, payload=self.payload, head=self.head, plan=plan, token=token
            )
        except ProxyError:
            exchange.plan, exchange.given_up = before
            raise


async def token_for(gateway: Gateway, exchange: Exchange, plan: Plan) -> tuple[Plan, AccessToken]:
    """Return what to do while there is no token for *plan*, and the token for it once its first mint is done.

    That is the fallback where there is one: nobody waits for a modern mint. Raises TokenRefused or TokenUnavailable.
    """
    if plan.fallback is not None:
        exchange.note = "modern_token_missing"
        # A mint that is under way speaks not against modern: often it replaces a token that one caller was refused.
        exchange.given_up = None if gateway.board.is_awaited(plan.token_key) else plan
        plan = exchange.plan = plan.fallback
    return plan, await wait_for_token(gateway, exchange, plan)


async def wait_for_token(gateway: Gateway, exchange: Exchange, plan: Plan) -> AccessToken:
    """Return the token for *plan* once it is there; raises TokenRefused or TokenUnavailable."""
    began = gateway.clock.monotonic()
    try:
        return await gateway.board.wait(plan.token_key, until=exchange.began + gateway.exchange_timeout)
    finally:
        exchange.waited += gateway.clock.monotonic() - began


async def prepare(
    gateway: Gateway,
    side: CallerSide,
    exchange: Exchange,
    *,
    payload: Payload,
    head: RequestHead,
    plan: Plan,
    token: AccessToken,
) -> Send:
    """Return a send with a live connection and its intent on disk.

    Raises UpstreamUnreachable, Overloaded or LogUnavailable; nothing was sent then.
    """
    pool = gateway.pools[plan.way.upstream]
    connection = pool.idle()
    if connection is None:
        began = gateway.clock.monotonic()
        connection = await pool.connect()
        exchange.waited += gateway.clock.monotonic() - began
    attempt = Attempt(
        len(exchange.attempts) + 1,
        plan=plan,
        started_wall=gateway.clock.now(),
        token_fingerprint=token.fingerprint,
        connect_ms=0.0 if connection.reused else connection.connect_ms,
    )
    exchange.attempts.append(attempt)
    try:
        intent = gateway.intents.write(exchange, attempt)
        if intent is not None:
            await intent
    except BaseException:
        connection.release()
        raise
    if connection.closed:
        # It closed while the intent was being written, and nothing was sent on it: another one may be used.
        connection = await pool.connect()
    if plan.fallback is not None and gateway.clock.monotonic() >= token.expires:
        # It ran out while connection and intent were made, and nothing was sent with it.
        connection.release()
        plan, token = await token_for(gateway, exchange, plan)
        return await prepare(gateway, side, exchange, payload=payload, head=head, plan=plan, token=token)
    return Send(gateway, side, exchange, payload, head, plan, token, connection, attempt)
