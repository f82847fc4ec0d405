"""How each API family of the bank words its errors.

Only GP2 and Reporting refuse a token with 401 and a problem-like body; Validation Services knows no 401 and says 403
GCA-001, Checkout says 403 in plain text. Where the bank's shape is not documented the GP2 shape stands in.
"""

from http import HTTPStatus
from typing import Any

from proxy.entropy import uuid4
from proxy.simulator.answer import Answer, json_answer, text_answer
from proxy.simulator.call import Call
from proxy.simulator.world import World

# What the bank documents for 503: integer seconds.
_RETRY_AFTER = {"Retry-After": "600"}
_GRPC = {400: 3, 401: 16, 404: 5, 409: 6, 429: 8, 503: 14}
_CODES = {
    401: ("Authentication Failure", "14000", "Client could not be authenticated"),
    403: ("Authentication Failure", "14000", "Client is forbidden to use this account"),
    404: ("Not Found", "10404", "The resource does not exist"),
    429: ("Too Many Requests", "9005", "The agreed rate limit has been exceeded, try again later."),
    503: ("Service Unavailable", "9001", "The service is unavailable, try again later."),
}


def refused_token(call: Call, world: World) -> Answer:
    """Return what the API at the call's path says to a token that is missing, dead or for another audience."""
    if call.path.startswith("/tsapi/"):
        return error(call, world, 403)
    if call.path.startswith("/v1/checkout"):
        return text_answer("Invalid JWT. Denying request.", status=403)
    return error(call, world, 401)


def error(call: Call, world: World, status: int) -> Answer:
    """Return an error of *status* in the shape of the API at the call's path."""
    title, code, message = _CODES.get(status, (_phrase(status), str(status), _phrase(status)))
    headers = _RETRY_AFTER if status == 503 else {}
    value: dict[str, Any]
    if call.path.startswith("/tsapi/"):
        wording = ("GCA-001", "Unauthorized Access") if status in (401, 403) else (code, message)
        value = {"errors": [{"errorCode": wording[0], "errorMsg": wording[1]}]}
        return json_answer(value, status=status, headers=headers)
    if call.path.startswith("/v1/checkout"):
        if status == 403:
            return text_answer("Invalid JWT. Denying request.", status=403)
        return json_answer(
            {"code": _GRPC.get(status, 2), "message": message, "details": []}, status=status, headers=headers
        )
    if call.path.startswith("/api/v2"):
        value = {"responseStatus": "ERROR", "responseCode": _phrase(status).upper().replace(" ", "_")}
        return json_answer({**value, "responseMessage": message}, status=status, headers=headers)
    if call.path.startswith("/documents"):
        return json_answer(
            {"title": _phrase(status), "httpStatus": status, "context": [{"message": message}]},
            status=status,
            headers=headers,
        )
    return json_answer(
        {
            "title": title,
            "httpStatus": status,
            "traceId": uuid4(world.entropy),
            "requestId": call.header("Request-Id") or uuid4(world.entropy),
            "context": [{"code": code, "message": message}],
        },
        status=status,
        headers=headers,
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)
