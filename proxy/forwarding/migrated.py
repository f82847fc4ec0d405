"""What a migration has to know of an exchange on one of its routes: where a retry must go, what came of each side."""

import asyncio
from collections.abc import Iterator
from typing import Final

from proxy.errors import Sent
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import Gateway
from proxy.migration.row import MigratedRow
from proxy.migration.side import Side
from proxy.routing.plan import Plan
from proxy.settings.methods import SAFE_METHODS

# What speaks against a side, rather than against the caller or the proxy: no token, no connection, no proper answer.
_FAILURES: Final = frozenset(
    {
        "token_refused", "token_unavailable", "upstream_unreachable", "upstream_reset", "upstream_bad_response",
        "upstream_timeout",
    }
)  # fmt: skip
_OK: Final = "ok"


def hold_side(gateway: Gateway, exchange: Exchange) -> None:
    """Begin to pin retries of *exchange* to the side that has it now, without waiting."""
    plan = exchange.plan
    if plan is not None and plan.retry and exchange.keeping is None:
        exchange.keeping = asyncio.get_running_loop().create_task(
            gateway.shift.keep(plan.retry, plan.side, plan.way.upstream), name="pin retries to a side"
        )


async def keep_side(gateway: Gateway, exchange: Exchange) -> None:
    """Return once retries of *exchange* go where it went, if the bank may have done it and the caller may not know.

    To be awaited before the caller gets its answer, which is the signal to try again; a caller that leaves has given
    that signal itself (`Send` holds the side then). If the pin can't be kept the answer goes out all the same.
    """
    uncertain = exchange.code or exchange.status >= 500
    if exchange.retry and uncertain and exchange.sent_upstream is not Sent.NO:
        hold_side(gateway, exchange)
        await kept(exchange)


def migrated(gateway: Gateway, exchange: Exchange) -> None:
    """Tell what came of an exchange on a migrated route, once it has ended; never waits."""
    for row in outcomes(exchange):
        gateway.shift.ended(row)
    plan = exchange.plan
    if plan is not None and plan.fallback is not None and 200 <= exchange.status < 400:
        taken = exchange.attempts[-1].token_fingerprint
        gateway.board.accepted(plan.token_key, plan.route.name, exchange.caller, fingerprint=taken)


def outcomes(exchange: Exchange) -> Iterator[MigratedRow]:
    """Yield a row for each side that was tried: two where modern had no usable token and legacy served."""
    plan, first = exchange.plan, exchange.given_up
    if first is not None:
        refused = any(attempt.refused for attempt in exchange.attempts if attempt.chosen.side == first.side)
        status = exchange.attempts[0].status if refused else 0
        yield _row(exchange, first, "refused" if refused else "failed", status=status, refused=refused)
    if plan is not None:
        yield _last(exchange, plan)


def _last(exchange: Exchange, plan: Plan) -> MigratedRow:
    """Return the row of the side that *exchange* ended on."""
    made = [
        attempt for attempt in exchange.attempts if attempt.chosen.side == plan.side and attempt.sent is not Sent.NO
    ]
    status = made[-1].status if made else 0
    cut_off = exchange.caller_left and exchange.method in SAFE_METHODS  # by us, whatever it looks like
    if made and made[-1].refused:
        outcome = "refused"
    elif exchange.code in _FAILURES and not cut_off:
        outcome = "failed"
    elif exchange.code or not status:  # the proxy said no, or the caller left before there was an answer
        outcome = "none"
    else:
        outcome = _of_status(status)
    return _row(exchange, plan, outcome, status=status, refused=any(attempt.refused for attempt in made))


def _of_status(status: int) -> str:
    if status < 400:
        return _OK
    if status >= 500:
        return "failed"
    # A 401 that is no refusal is insufficient_scope: an entitlement is missing, which a 403 says as well.
    return "forbidden" if status in {401, 403} else "client_error"


def _row(exchange: Exchange, plan: Plan, outcome: str, *, status: int, refused: bool) -> MigratedRow:
    migration = plan.route.migration
    name = migration.policy.name if migration is not None else ""
    safe = exchange.method in SAFE_METHODS
    return MigratedRow(
        name, Side(plan.side), exchange.caller, safe, outcome, status, refused, exchange.finished, plan.route.name
    )


async def kept(exchange: Exchange) -> None:
    """Return once retries are pinned, if that has begun."""
    if exchange.keeping is not None:
        await asyncio.wait((exchange.keeping,))
