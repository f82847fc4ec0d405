"""The life of a request."""

from proxy.errors import InternalError, ProxyError
from proxy.forwarding.body import Payload
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.facade import is_token_request, issue_token
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.migrated import keep_side, migrated
from proxy.forwarding.relay import refuse, relay
from proxy.forwarding.replay import after_refusal, is_refusal
from proxy.forwarding.send import prepare, token_for
from proxy.routing.plan import plan as decide


async def forward(side: CallerSide, gateway: Gateway) -> None:
    """Serve one request from its head to its record; a step a line, and nothing below sends twice."""
    exchange = gateway.ledger.begin(side)
    payload = Payload(exchange, side, gateway)
    try:
        head = exchange.head = gateway.reception.read(side)
        if gateway.facade is not None and is_token_request(gateway.facade, head):
            await issue_token(gateway, gateway.facade, side=side, exchange=exchange, payload=payload, head=head)
            return
        caller = exchange.admitted = gateway.reception.identify(side, exchange, head)
        plan = exchange.plan = decide(
            head, caller, gateway.table, gateway.migrations, request_id=exchange.id, now=exchange.began_wall
        )
        with gateway.admission.admit(caller):
            if head.has_body:
                await payload.take(head, replay_limit=plan.route.replay_limit)
            token = gateway.board.get(plan.token_key)
            if token is None:
                plan, token = await token_for(gateway, exchange, plan)
            send = await prepare(gateway, side, exchange, payload=payload, head=head, plan=plan, token=token)
            answer = await send.once()
            if (answer.status == 401 or plan.route.remint_on) and await is_refusal(answer, plan.route.remint_on):
                send, answer = await after_refusal(send, answer)
            await relay(send, answer)
    except CallerLeft:
        exchange.caller_left = True
    except ProxyError as error:
        exchange.failed(error)
        await keep_side(gateway, exchange)
        refuse(side, exchange, error)
    except Exception as error:  # noqa: BLE001  whatever breaks, the caller gets an answer and the log a record
        failure = InternalError.of(error)
        exchange.failed(failure)
        await keep_side(gateway, exchange)
        refuse(side, exchange, failure)
    finally:
        payload.release()
        exchange.caller_left |= side.left
        gateway.ledger.finish(exchange)
        if exchange.plan is not None and exchange.plan.route.migration is not None:
            await migrated(gateway, exchange)
