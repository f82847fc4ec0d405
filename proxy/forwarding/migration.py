"""What the data path does for migrated routes: settle the side, pin retries, report the outcome of each side."""

import asyncio
from collections.abc import Iterator
from typing import Final

from proxy.callers.caller import Caller
from proxy.errors import Sent, SideUnknown
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import Gateway
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.side import Side
from proxy.routing.plan import Plan
from proxy.routing.plan import plan as decide
from proxy.routing.request_head import RequestHead
from proxy.settings.methods import SAFE_METHODS

# Failures of a side, not of the caller or the proxy: no token, no connection, no valid response.
_FAILURES: Final = frozenset(
    {
        "token_refused", "token_unavailable", "upstream_unreachable", "upstream_reset", "upstream_bad_response",
        "upstream_timeout",
    }
)  # fmt: skip
_OK: Final = "ok"
# How long a request waits until its side is known.
_SOON_SECONDS: Final = 1.0


def pin_retry_now(gateway: Gateway, exchange: Exchange) -> None:
    """Start pinning retries of *exchange* to its current side, without waiting."""
    plan = exchange.plan
    if plan is not None and plan.keyed is not None and exchange.pinning is None:
        answered = exchange.status >= 500 and not exchange.code
        pin = _pin(gateway, plan, Reason.ANSWERED if answered else Reason.UNKNOWN)
        exchange.pinning = asyncio.get_running_loop().create_task(
            gateway.reporter.keep(plan.keyed.digest, pin), name="pin retries to a side"
        )


def _pin(gateway: Gateway, plan: Plan, reason: Reason) -> RetryPin:
    migration = plan.route.migration
    name = "" if migration is None else migration.policy.name
    return RetryPin(Side(plan.side), plan.way.upstream, gateway.now() + PIN_SECONDS, name, reason)


def decided(gateway: Gateway, exchange: Exchange, head: RequestHead, caller: Caller) -> Plan | None:
    """Return the plan for *exchange*, None if its side will be known in a moment; raises as `plan`."""
    try:
        return decide(
            head, caller, gateway.table, gateway.migrations, request_id=exchange.id, now=exchange.started_wall
        )
    except SideUnknown as error:
        if not error.soon:
            raise
    return None


async def decided_soon(gateway: Gateway, exchange: Exchange, head: RequestHead, caller: Caller) -> Plan:
    """Wait for the plan: a change of side takes some 10 ms. Raises as `plan`, SideUnknown after 1 s.

    If this raised at once, callers that retry without a pause would be refused again and again.
    """
    end = gateway.monotonic() + _SOON_SECONDS
    while (left := end - gateway.monotonic()) > 0:
        started = gateway.monotonic()
        await gateway.reporter.wait_for_change(left)
        exchange.waited += gateway.monotonic() - started
        found = decided(gateway, exchange, head, caller)
        if found is not None:
            return found
    return decide(head, caller, gateway.table, gateway.migrations, request_id=exchange.id, now=exchange.started_wall)


async def enter(gateway: Gateway, exchange: Exchange, plan: Plan) -> None:
    """Register the key of *exchange* as in flight; await this in the loop iteration in which its side was decided.

    If an earlier try decided by a pin that soon ends, pin first for longer: raises SideUnknown if that is not possible.
    """
    keyed, migration = plan.keyed, plan.route.migration
    if keyed is None or migration is None:
        return
    now = exchange.started_wall
    key = exchange.key = gateway.migrations.enter(
        keyed, migration.policy, side=Side(plan.side), upstream=plan.way.upstream, now=now
    )
    if gateway.migrations.too_short(key, now) and not await gateway.reporter.keep(
        keyed.digest, _pin(gateway, plan, Reason.UNKNOWN)
    ):
        raise SideUnknown(
            "The side of an earlier try of this request can't be kept for long enough now; nothing was sent.",
            cause="its retry pin ends soon, and a longer one could not be stored",
            retry_after=1,
        )


async def may_fall_back(gateway: Gateway, exchange: Exchange, fallback: Plan) -> bool:
    """Return whether *exchange* may go to *fallback* instead of the side that its weight selects.

    A process that does not know of this would route a retry by weight, so all have to agree first.
    """
    key = exchange.key
    if key is None or fallback.keyed is None:
        return True
    if not gateway.migrations.begin_claim(key):
        return False
    if not await gateway.reporter.claim(fallback.keyed.digest, _pin(gateway, fallback, Reason.FALLBACK)):
        # If only the answer was late, other processes have the claim: the key is refused here until this request ends.
        return False
    gateway.migrations.end_claim(key, side=Side(fallback.side), upstream=fallback.way.upstream)
    return True


async def pin_retry(gateway: Gateway, exchange: Exchange) -> None:
    """Pin retries of *exchange* to its side, if the bank may have executed it and the caller may not know.

    Await this before the caller gets its response, after which it may retry; for a caller that disconnects, `Send` has
    pinned already. If the pin can't be stored the response is sent all the same.
    """
    if exchange.retry and _is_uncertain(exchange):
        pin_retry_now(gateway, exchange)
        await wait_until_pinned(exchange)


def _is_uncertain(exchange: Exchange) -> bool:
    """Return whether the bank may have executed the request and the caller can't know."""
    uncertain = exchange.caller_left or exchange.status >= 500 or exchange.code
    return bool(uncertain) and exchange.sent_upstream is not Sent.NO


def report_outcomes(gateway: Gateway, exchange: Exchange) -> None:
    """Report the outcome of a finished exchange on a migrated route; never waits."""
    if exchange.key is not None:
        sent = exchange.sent_upstream is not Sent.NO
        key = exchange.key
        pin = gateway.migrations.leave(key, sent=sent, uncertain=_is_uncertain(exchange), now=gateway.now())
        if pin is not None:
            gateway.reporter.release(key.keyed.digest, pin)
    for row in outcomes(exchange):
        gateway.reporter.ended(row)
    plan = exchange.plan
    if plan is not None and plan.fallback is not None and 200 <= exchange.status < 400:
        taken = exchange.attempts[-1].token_fingerprint
        gateway.tokens.accepted(plan.token_key, plan.route.name, exchange.caller, fingerprint=taken)


def outcomes(exchange: Exchange) -> Iterator[ExchangeOutcome]:
    """Yield a row for each side that was tried: two if modern had no usable token and legacy served."""
    plan, first = exchange.plan, exchange.abandoned
    if first is not None:
        refused = any(attempt.refused for attempt in exchange.attempts if attempt.chosen.side == first.side)
        status = exchange.attempts[0].status if refused else 0
        yield _row(exchange, first, "refused" if refused else "failed", status=status, refused=refused)
    if plan is not None:
        yield _last(exchange, plan)


def _last(exchange: Exchange, plan: Plan) -> ExchangeOutcome:
    """Return the row of the side on which *exchange* ended."""
    made = [
        attempt for attempt in exchange.attempts if attempt.chosen.side == plan.side and attempt.sent is not Sent.NO
    ]
    status = made[-1].status if made else 0
    aborted = exchange.caller_left and exchange.method in SAFE_METHODS  # by the proxy, whatever the error looks like
    if made and made[-1].refused:
        outcome = "refused"
    elif exchange.code in _FAILURES and not aborted:
        outcome = "failed"
    elif exchange.code or not status:  # refused by the proxy, or the caller left before a response
        outcome = "none"
    else:
        outcome = _of_status(status)
    return _row(exchange, plan, outcome, status=status, refused=any(attempt.refused for attempt in made))


def _of_status(status: int) -> str:
    if status < 400:
        return _OK
    if status >= 500:
        return "failed"
    # A 401 that does not refuse the token is insufficient_scope: a missing entitlement, as with 403.
    return "forbidden" if status in {401, 403} else "client_error"


def _row(exchange: Exchange, plan: Plan, outcome: str, *, status: int, refused: bool) -> ExchangeOutcome:
    migration = plan.route.migration
    name = migration.policy.name if migration is not None else ""
    safe = exchange.method in SAFE_METHODS
    return ExchangeOutcome(
        name, Side(plan.side), exchange.caller, safe, outcome, status, refused, exchange.finished, plan.route.name
    )


async def wait_until_pinned(exchange: Exchange) -> None:
    """Wait until retries are pinned, if pinning was started."""
    if exchange.pinning is not None:
        await asyncio.wait((exchange.pinning,))
