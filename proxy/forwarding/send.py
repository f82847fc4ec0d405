"""One send to the bank: prepared completely, then executed once."""

import asyncio
from typing import Final

from proxy.errors import InternalError, ProxyError, Sent, SideUnknown, TokenUnavailable, UpstreamReset
from proxy.forwarding.body import RequestBody
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.headers import outbound_head
from proxy.forwarding.migration import may_fall_back, pin_retry_now
from proxy.migration.former import Keyed
from proxy.migration.side_cache import SideCache
from proxy.request_summary import Attempt
from proxy.routing.plan import Plan
from proxy.routing.request_head import RequestHead
from proxy.settings.methods import SAFE_METHODS
from proxy.tokens.refusals import source_of
from proxy.tokens.token import AccessToken
from proxy.upstream.connection import Connection
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.upload import PIECE_BYTES
from proxy.upstream.upload import send as upload

# Looking up an enum member in its class costs a call each time.
_NO: Final = Sent.NO
_YES: Final = Sent.YES
_UNKNOWN: Final = Sent.UNKNOWN


class Send:
    """A send of a request by *plan* with *token*: call `prepare`, then `once`."""

    __slots__ = ("attempt", "body", "connection", "exchange", "gateway", "head", "plan", "side", "token")

    connection: Connection
    attempt: Attempt

    def __init__(
        self,
        gateway: Gateway,
        side: CallerSide,
        exchange: Exchange,
        *,
        body: RequestBody | None,
        head: RequestHead,
        plan: Plan,
        token: AccessToken,
    ) -> None:
        self.gateway = gateway
        self.side = side
        self.exchange = exchange
        self.body = body
        self.head = head
        self.plan = plan
        self.token = token

    async def prepare(self) -> None:
        """Get a live connection and write the intent.

        Raises UpstreamUnreachable, Overloaded or LogUnavailable; nothing was sent then.
        """
        gateway, pool = self.gateway, self.gateway.pools[self.plan.way.upstream]
        connection = pool.idle()
        if connection is None:
            started = gateway.monotonic()
            connection = await pool.connect()
            self.exchange.waited += gateway.monotonic() - started
        self.connection = connection
        attempt = self._begin_attempt(connection)
        try:
            await gateway.intents.write(self.exchange, attempt)
        except BaseException:
            connection.release()
            raise
        if connection.closed:
            # Closed while the intent was being written; nothing was sent on it, so another one may be used.
            self.connection = await pool.connect()
        if self.plan.fallback is not None and gateway.monotonic() >= self.token.expires:
            # The token expired meanwhile, and there is a fallback.
            self.connection.release()
            self.plan, self.token = await token_for(gateway, self.exchange, self.plan)
            await self.prepare()

    def _begin_attempt(self, connection: Connection) -> Attempt:
        attempts = self.exchange.attempts
        attempt = self.attempt = Attempt(
            len(attempts) + 1,
            chosen=self.plan.chosen,
            started_wall=self.gateway.now(),
            token_fingerprint=self.token.fingerprint,
            connect_ms=0.0 if connection.reused else connection.connect_ms,
        )
        attempts.append(attempt)
        return attempt

    async def once(self) -> UpstreamResponse:
        """Send; return the response's head; raises UpstreamReset, UpstreamBadResponse, UpstreamTimedOut, CallerLeft.

        `attempt.sent` tells afterwards, on success and on error, whether the bank may have the request.
        """
        gateway, exchange, connection, attempt = self.gateway, self.exchange, self.connection, self.attempt
        monotonic, request_body = gateway.monotonic, self.body
        held = b"" if request_body is None else request_body.held
        started = monotonic()
        try:
            self._check(started)
            head = outbound_head(self.head, self.plan, self.token, held=None if held is None else len(held))
        except BaseException:
            connection.release()
            raise
        if exchange.method in SAFE_METHODS:
            self.side.call_when_left(connection.abort)
        elif self.plan.keyed is not None:
            self.side.call_when_left(self._pin_retry_now)
        attempt.sent = _UNKNOWN
        try:
            deadline = exchange.started + gateway.exchange_timeout
            if held is not None and len(held) <= PIECE_BYTES:  # no coroutine: the case of nearly every request
                to_head = exchange.method == "HEAD"
                response = await connection.send_whole(head + held, to_head=to_head, now=started, deadline=deadline)
            else:
                body = request_body.stream() if held is None and request_body is not None else held or b""
                response = await upload(
                    connection,
                    head,
                    body,
                    method=exchange.method,
                    chunked=self.head.chunked,
                    now=started,
                    deadline=deadline,
                )
        except asyncio.CancelledError:
            connection.abort()
            raise
        finally:
            waited = monotonic() - started
            exchange.waited += waited
            attempt.wait_ms = waited * 1000
            if not connection.sent:
                attempt.sent = _NO
        attempt.sent = _YES
        attempt.status = response.status
        if response.status < 400 and self.token.mint in gateway.tokens.to_report:
            gateway.tokens.works(self.token, sent=started)
        return response

    def _check(self, now: float) -> None:
        """Check before the first byte, at monotonic *now*: the token fits and is not expired, the caller is there."""
        if self.plan.origin not in self.token.origins:
            raise InternalError("The token does not belong to this upstream.", cause=f"token for {self.token.key!r}")
        if now >= self.token.expires:
            raise TokenUnavailable("The token expired before the request could be sent.", retry_after=1)
        if self.side.left:
            raise CallerLeft
        if self.plan.keyed is not None:
            self._check_contact(self.gateway.migrations, self.plan.keyed, now)

    @staticmethod
    def _check_contact(sides: SideCache, keyed: Keyed, now: float) -> None:
        """Raise SideUnknown if, at monotonic *now*, the request's side may not be what other processes go by."""
        if sides.is_too_late(now):
            raise SideUnknown("This instance is stopping, and a retry could go to another side.", retry_after=1)
        if sides.is_out_of_contact(keyed, now):
            raise SideUnknown(
                "Whether an earlier try of this request went to another side can't be told now; nothing was sent.",
                cause="this replica was not in contact with the others for some seconds, and they may have gone on "
                "without it",
                retry_after=1,
            )

    def _pin_retry_now(self) -> None:
        """Pin retries now: a caller that disconnected may retry long before the bank has answered."""
        if not self.attempt.refused:
            pin_retry_now(self.gateway, self.exchange)

    @property
    def source(self) -> str:
        """Return the refusal source of the request."""
        return source_of(self.plan.route.name, self.exchange.caller, self.exchange.method, self.exchange.path)

    async def again(self, plan: Plan, token: AccessToken) -> "Send":
        """Return a prepared second send of the same request by *plan* with *token*; raises as `prepare`."""
        exchange = self.exchange
        abandoned = exchange.abandoned
        if plan is not self.plan:
            exchange.set_plan(plan)
            exchange.abandoned = self.plan
        second = Send(self.gateway, self.side, exchange, body=self.body, head=self.head, plan=plan, token=token)
        try:
            await second.prepare()
        except ProxyError:
            exchange.set_plan(self.plan)
            exchange.abandoned = abandoned
            raise
        return second


def aborted_by_caller(side: CallerSide, exchange: Exchange, error: ProxyError) -> bool:
    """Return whether *error* is our own doing: a safe request is aborted at the bank when its caller disconnects."""
    return side.left and exchange.method in SAFE_METHODS and isinstance(error, UpstreamReset)


async def token_for(gateway: Gateway, exchange: Exchange, plan: Plan) -> tuple[Plan, AccessToken]:
    """Return plan and token for a request whose *plan* has no token: the fallback's, or the first mint's.

    With a fallback, the request does not wait for a modern mint. Raises TokenRefused, TokenUnavailable, or SideUnknown
    if an earlier try may be at modern.
    """
    if plan.fallback is not None:
        # A mint in progress is no failure of modern: often it replaces a token refused for one caller. Ask now: it may
        # have ended when the fallback is agreed.
        awaited = gateway.tokens.is_awaited(plan.token_key)
        if not await may_fall_back(gateway, exchange, plan.fallback):
            raise SideUnknown(
                "There is no modern token, and another try of this request may be on that side; nothing was sent.",
                cause="no modern token, and the fallback to legacy was not agreed on",
                retry_after=1,
            )
        exchange.note = "modern_token_missing"
        exchange.abandoned = None if awaited else plan
        plan = exchange.set_plan(plan.fallback)
    return plan, await wait_for_token(gateway, exchange, plan)


async def wait_for_token(gateway: Gateway, exchange: Exchange, plan: Plan) -> AccessToken:
    """Wait for the token of *plan*; raises TokenRefused or TokenUnavailable."""
    started = gateway.monotonic()
    try:
        return await gateway.tokens.wait(plan.token_key, until=exchange.started + gateway.exchange_timeout)
    finally:
        exchange.waited += gateway.monotonic() - started
