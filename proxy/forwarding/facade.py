"""Serves the facade's token endpoint: a request like others (admitted, counted, recorded), but never sent upstream."""

import json
from typing import Final

from proxy.callers.facade import Facade, TokenRequest, TokenRequestRefused
from proxy.callers.form import MOST_BYTES
from proxy.errors import MethodNotAllowed
from proxy.forwarding.body import RequestBody
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import Gateway
from proxy.forwarding.headers import CLOSES, STAYS_OPEN, added_headers
from proxy.routing.request_head import RequestHead

# The note in the record of a token request; its code is the error of RFC 6749 5.2, "" if a token was issued.
NOTE: Final = "facade_token"
# Time limit for the form of a request whose caller is not known yet: it is smaller than many heads.
_FORM_SECONDS: Final = 10.0
_STATUS_LINES: Final = {200: b"200 OK", 400: b"400 Bad Request", 401: b"401 Unauthorized"}


def is_token_request(facade: Facade, head: RequestHead) -> bool:
    """Return whether *head* is for the *facade*; absolute-form (RFC 9112 3.2.2) addresses another server."""
    return head.target.path in facade.paths and head.target.host is None


async def issue_token(
    gateway: Gateway, facade: Facade, *, side: CallerSide, exchange: Exchange, head: RequestHead
) -> None:
    """Send the caller a token of ours, or an OAuth error (RFC 6749 5).

    Raises MethodNotAllowed, Draining, Overloaded, RateLimited, and what reading the body raises.
    """
    exchange.note = NOTE
    proofs = gateway.identifier.proofs(side, exchange, head)
    if head.method != "POST":
        raise MethodNotAllowed("Tokens are asked for with POST (RFC 6749 3.2).", allowed=("POST",))
    with gateway.admission.admit_unknown(exchange.client_address):
        body = RequestBody(gateway, side, exchange)
        try:
            if head.has_body:
                await body.take(head, replay_limit=MOST_BYTES, within=_FORM_SECONDS)
        finally:
            body.release()
        try:
            if body.held is None:
                raise TokenRequestRefused("invalid_request", cause=f"the form is larger than {MOST_BYTES} bytes")
            granted = facade.grant(
                TokenRequest(
                    content_type=_content_type(head),
                    authorization=head.named.get(b"authorization", b""),
                    body=body.held,
                    proofs=proofs,
                )
            )
        except TokenRequestRefused as refused:
            exchange.code, exchange.cause = refused.error, refused.cause
            challenge = b'WWW-Authenticate: Basic realm="payproxy"\r\n' if refused.challenge else b""
            _answer(side, exchange, refused.status, {"error": refused.error}, more=challenge)
            return
        exchange.set_caller(granted.caller)
        exchange.cause = granted.remark
        gateway.admission.take_rate(granted.caller)
        # RFC 6749 5.1; token_type in lower case, as ADFS writes it.
        value: dict[str, str | int] = {
            "access_token": granted.token.reveal(),
            "token_type": "bearer",
            "expires_in": granted.lifetime,
        }
        _answer(side, exchange, 200, value)


def _content_type(head: RequestHead) -> str:
    """Return Content-Type, "" if it is missing or repeated (ambiguous)."""
    values = [line.value for line in head.passed if line.name.lower() == b"content-type"]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _answer(
    side: CallerSide, exchange: Exchange, status: int, value: dict[str, str | int], *, more: bytes = b""
) -> None:
    body = json.dumps(value).encode()
    exchange.status, exchange.response_bytes = status, len(body)
    if side.raw.version == (1, 0):
        side.close_after()  # the default of HTTP/1.0
    details = f'details="{exchange.code or NOTE}"'
    lines = [
        b"HTTP/1.1 %b\r\nContent-Type: application/json;charset=UTF-8\r\n" % _STATUS_LINES[status],
        b"Content-Length: %d\r\nCache-Control: no-store\r\nPragma: no-cache\r\n" % len(body),
        more,
        added_headers(exchange, f"error=http_request_denied; {details}" if exchange.code else details),
        CLOSES if side.will_close() else STAYS_OPEN,
    ]
    side.write(b"".join(lines) + body)
