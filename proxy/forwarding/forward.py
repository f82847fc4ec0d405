"""The life of a request."""

from proxy.errors import InternalError, ProxyError
from proxy.forwarding.body import RequestBody
from proxy.forwarding.body_signature import sign_body
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.forwarding.facade import is_token_request, issue_token
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.migration import decided, decided_soon, enter, pin_retry, report_outcomes, wait_until_pinned
from proxy.forwarding.relay import refuse, relay
from proxy.forwarding.replay import after_refusal, is_refusal
from proxy.forwarding.send import Send, aborted_by_caller, token_for
from proxy.routing.request_head import RequestHead


async def forward(side: CallerSide, gateway: Gateway) -> None:  # noqa: C901, PLR0912 - one step per line
    """Serve one request from its head to its record: one step per line, and no step sends twice."""
    exchange = gateway.exchanges.begin(side)
    body: RequestBody | None = None
    failure: ProxyError | None = None
    try:
        try:
            head = exchange.set_head(RequestHead.of(side.raw, gateway.head_limits))
            if gateway.facade is not None and is_token_request(gateway.facade, head):
                await issue_token(gateway, gateway.facade, side=side, exchange=exchange, head=head)
                return
            caller = exchange.set_caller(gateway.identifier.identify(side, exchange, head))
            plan = decided(gateway, exchange, head, caller) or await decided_soon(gateway, exchange, head, caller)
            if exchange.set_plan(plan).keyed is not None:
                await enter(gateway, exchange, plan)
            with gateway.admission.admit(caller):
                if head.has_body:
                    body = RequestBody(gateway, side, exchange)
                    await body.take(head, replay_limit=plan.route.replay_limit, whole=plan.signed_type != b"")
                token = gateway.tokens.get(plan.token_key)
                if token is None:
                    plan, token = await token_for(gateway, exchange, plan)
                if body is not None and plan.signed_type:
                    await sign_body(gateway, exchange, head, body, signed_type=plan.signed_type)
                send = Send(gateway, side, exchange, body=body, head=head, plan=plan, token=token)
                await send.prepare()
                response = await send.once()
                if (response.status == 401 or plan.route.remint_on) and await is_refusal(response, plan.route):
                    send, response = await after_refusal(send, response)
                await relay(send, response)
        except CallerLeft:
            exchange.caller_left = True
        except ProxyError as error:
            failure = None if aborted_by_caller(side, exchange, error) else error
        except Exception as error:  # noqa: BLE001  whatever breaks, the caller gets an answer and the log a record
            failure = InternalError.of(error)
        if failure is not None:
            exchange.failed(failure)
            await pin_retry(gateway, exchange)
            refuse(side, exchange, failure)
    finally:
        if body is not None:
            body.release()
        exchange.caller_left |= side.left
        gateway.exchanges.finish(exchange)
        if exchange.plan is not None and exchange.plan.route.migration is not None:
            report_outcomes(gateway, exchange)
    if exchange.pinning is not None:
        await wait_until_pinned(exchange)
