"""The bank's APIs, as far as a proxy can tell them apart; each opens only to a live token for its audience.

- `GET /payment/helloworld`; `POST`, `GET /payment/v2/payments[/ID]`: Global Payments 2. An Idempotency-Key seen before
  from the same client gives 200 and `Duplicate-Request: true`, and executes nothing. `?requestId=` of the GET finds the
  client's payment by the Request-Id of its POST.
- `POST /tsapi/v2/validations`: Validation Services, never 401. `/v1/checkout...`: Checkout, camel-case headers.
- `/api/v2/payments...`: Online Payments; its wallet answer is the invalid JSON that the bank is known to send.
- `GET /api/v1/reports/ID`, `GET /api/v1/report-files/ID?size=BYTES[&chunked=1]`: a CSV, also on the second port.
- `POST /documents`: multipart upload, its parts checked.
- Below a path of which bodies have to be signed (`World.require_signature`), an endpoint gets the payload of the JWS.
- `/echo...`: any method; returns what arrived, with the token's fingerprint in place of the token.
"""

import hashlib
from collections.abc import Callable

from proxy.simulator.answer import Answer, json_answer
from proxy.simulator.call import Call
from proxy.simulator.documents import UploadRefused, document_of
from proxy.simulator.report import report_blocks
from proxy.simulator.shapes import error, refused_token
from proxy.simulator.signed_bodies import refused_signature
from proxy.simulator.world import World

_DEFAULT_REPORT = 1 << 20
# The bank's own limit for Checkout: longer ids, such as UUIDs with hyphens, are refused.
_LONGEST_REQUEST_ID = 22
# The comma after an absent value is the bank's; see juspay/hyperswitch-prism PR 886.
_WALLET_ANSWER = (
    b'{"transactionId":"%s","responseStatus":"SUCCESS","responseCode":"APPROVED","responseMessage":"Approved",'
    b'"paymentMethodType":{"card":{"walletProvider":"APPLE_PAY","expiry":{"month": ,"year": }}}}'
)


def api(call: Call, world: World) -> Answer:
    """Answer a call to one of the APIs."""
    endpoint = _endpoint(call.path)
    if endpoint is None:
        return error(call, world, 404)
    reason = world.refuses(call.token, path=call.path, peer=call.peer)
    if reason:
        call.received.note = reason
        return refused_token(call, world)
    refusal = refused_signature(call, world)
    return endpoint(call, world) if refusal is None else refusal


def _endpoint(path: str) -> Callable[[Call, World], Answer] | None:
    for prefix, endpoint in _ENDPOINTS:
        if path == prefix or path.startswith(prefix + "/"):
            return endpoint
    return None


def _helloworld(call: Call, world: World) -> Answer:
    if call.method not in ("GET", "HEAD"):
        return error(call, world, 405)
    return json_answer({"message": "Hello, world"})


def _payments(call: Call, world: World) -> Answer:
    identity = call.path.removeprefix("/payment/v2/payments").strip("/")
    if call.method in ("GET", "HEAD"):
        if request_id := call.query("requestId"):
            booked = world.booked(call.received.client_id, request_id)
            found = [{"paymentId": booked, "requestId": request_id, **world.payments.get(booked, {})}] if booked else []
            return json_answer({"payments": found})
        if not identity:
            return json_answer({"payments": [{"paymentId": each} for each in list(world.payments)[-25:]]})
        payment = world.payments.get(identity)
        return error(call, world, 404) if payment is None else json_answer({"paymentId": identity, **payment})
    if call.method != "POST":
        return error(call, world, 405)
    made = {"paymentStatus": "PENDING", "bodySha256": call.sha256}
    identity, again = world.execute(call.received.client_id, call.header("Idempotency-Key") or "", made)
    world.enter(call.received.client_id, call.header("Request-Id") or "", identity)
    value = {"paymentId": identity, **world.payments.get(identity, made)}
    if again:
        return json_answer(value, headers={"Duplicate-Request": "true"})
    return json_answer(value, status=201)


def _validations(call: Call, world: World) -> Answer:
    if call.method != "POST":
        return error(call, world, 405)
    identity, _ = world.execute(call.received.client_id, "", {"bodySha256": call.sha256})
    return json_answer(
        [{"requestId": identity, "responses": {"verification": {"code": "1002", "message": "Open Valid"}}}]
    )


def _checkout(call: Call, world: World) -> Answer:
    merchant, request_id = call.header("merchantId"), call.header("requestId")
    if not merchant or not request_id or len(request_id) > _LONGEST_REQUEST_ID:
        return json_answer({"code": 3, "message": "merchantId or requestId is missing or malformed"}, status=400)
    if world.merchants and merchant not in world.merchants:
        call.received.note = "merchant not boarded"
        return error(call, world, 403)
    return json_answer({"checkoutId": call.received.number, "merchantId": merchant, "requestId": request_id})


def _online_payments(call: Call, world: World) -> Answer:
    identity = ""
    if call.method == "POST":
        identity, _ = world.execute(call.received.client_id, "", {"bodySha256": call.sha256})
    return Answer(headers={"Content-Type": "application/json"}, body=_WALLET_ANSWER % identity.encode())


def _report(call: Call, world: World) -> Answer:
    identity = call.path.removeprefix("/api/v1/reports").strip("/") or "1"
    url = f"{world.files_origin}/api/v1/report-files/{identity}"
    return json_answer({"reportId": identity, "reportStatus": "READY", "reportDetails": {"url": url}})


def _report_file(call: Call, world: World) -> Answer:
    asked = call.query("size", str(_DEFAULT_REPORT))
    if not asked.isascii() or not asked.isdigit() or len(asked) > 15:
        return error(call, world, 400)
    size = int(asked)
    headers = {"Content-Type": "text/csv", "Content-Disposition": 'attachment; filename="report.csv"'}
    return Answer(headers=headers, body=report_blocks(size), size=None if call.query("chunked") else size)


def _documents(call: Call, world: World) -> Answer:
    if call.method != "POST":
        return error(call, world, 405)
    if len(call.body) != call.size:
        return error(call, world, 413)
    try:
        document = document_of(call.header("Content-Type") or "", call.body)
    except UploadRefused as refused:
        call.received.note = str(refused)
        return json_answer(
            {"title": "Bad Request", "httpStatus": 400, "context": [{"message": str(refused)}]}, status=400
        )
    made = {"fileName": document.filename, "fileSha256": hashlib.sha256(document.content).hexdigest()}
    identity, again = world.execute(call.received.client_id, call.header("Idempotency-Key") or "", made)
    return json_answer({"id": identity, "fileSize": len(document.content), **made}, status=200 if again else 201)


def _echo(call: Call, world: World) -> Answer:
    received = call.received
    return json_answer(
        {
            "method": call.method,
            "target": call.target,
            "headers": received.as_dict()["headers"],
            "token_fingerprint": received.token_fingerprint,
            "client_id": received.client_id,
            "body_size": call.size,
            "body_sha256": call.sha256,
            "when": world.now(),
        }
    )


_ENDPOINTS = (
    ("/payment/helloworld", _helloworld),
    ("/payment/v2/payments", _payments),
    ("/tsapi/v2/validations", _validations),
    ("/v1/checkout", _checkout),
    ("/api/v2/payments", _online_payments),
    ("/api/v1/reports", _report),
    ("/api/v1/report-files", _report_file),
    ("/documents", _documents),
    ("/echo", _echo),
)
