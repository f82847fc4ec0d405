"""One send to the bank: made ready completely, then done once."""

from dataclasses import dataclass

from proxy.errors import InternalError, Sent, TokenUnavailable
from proxy.forwarding.body import Payload
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.exchange import Attempt, Exchange
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.headers import outbound_head
from proxy.routing.head import RequestHead
from proxy.routing.plan import Plan
from proxy.tokens.token import AccessToken
from proxy.upstream.answer import Answer
from proxy.upstream.connection import Connection

# What a caller may break off at the bank when it leaves: these change nothing there (RFC 9110 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
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
        attempt.sent = _UNKNOWN
        try:
            answer = await connection.send(
                head,
                self.payload.stream() if held is None else held,
                method=exchange.method,
                chunked=self.head.chunked,
                deadline=exchange.began + gateway.exchange_timeout,
            )
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

    async def again(self, token: AccessToken) -> "Send":
        """Return a second send of the same bytes with *token*, made ready; raises as `prepare`."""
        return await prepare(
            self.gateway, self.side, self.exchange, payload=self.payload, head=self.head, plan=self.plan, token=token
        )


async def token_for(gateway: Gateway, exchange: Exchange, plan: Plan) -> AccessToken:
    """Return the token once its first mint is done; raises TokenRefused or TokenUnavailable."""
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
    pool = gateway.pools[plan.route.upstream]
    connection = pool.idle()
    if connection is None:
        began = gateway.clock.monotonic()
        connection = await pool.connect()
        exchange.waited += gateway.clock.monotonic() - began
    attempt = Attempt(
        len(exchange.attempts) + 1,
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
    return Send(gateway, side, exchange, payload, head, plan, token, connection, attempt)
