"""The answers that a fault gives instead of the endpoint's."""

from collections.abc import Iterator
from dataclasses import replace

from proxy.simulator.answer import Answer, json_answer, text_answer
from proxy.simulator.call import Call
from proxy.simulator.faults import Fault, FaultKind
from proxy.simulator.shapes import error, refused_token
from proxy.simulator.token_endpoints import FLAVORS, refuse
from proxy.simulator.world import World

_JSON = {"Content-Type": "application/json"}
_PAGE = "<!DOCTYPE html><html><head><title>Access blocked</title></head><body>Your IT department says no.</body></html>"


def fault_answer(fault: Fault, call: Call, world: World) -> Answer:
    """Return the answer of a fault of the group "instead"."""
    match fault.kind:
        case FaultKind.REFUSE:
            answer = _refusal(fault, call, world)
        case FaultKind.STATUS:
            answer = _status(fault, call, world)
        case FaultKind.HTML:
            answer = text_answer(_PAGE, status=fault.status or 200, content_type="text/html; charset=utf-8")
        case FaultKind.BROKEN_JSON:
            answer = Answer(status=fault.status or 200, headers=_JSON, body=b'{"access_token":"eyJhbGciOi')
        case FaultKind.ENDLESS:
            answer = Answer(status=fault.status or 200, headers=_JSON, body=_without_end())
        case FaultKind.REDIRECT:
            location = fault.location or world.origin + "/elsewhere"
            answer = Answer(status=fault.status or 302, headers={"Location": location})
        case _:
            answer = Answer(status=fault.status or 200, headers=_JSON)
    if fault.body is not None:
        answer = replace(answer, body=fault.body.encode())
    return replace(answer, headers={**answer.headers, **fault.headers})


def _refusal(fault: Fault, call: Call, world: World) -> Answer:
    flavor = FLAVORS.get(call.path)
    if flavor is None:
        return refused_token(call, world)
    return refuse(flavor, error=fault.error, description=fault.description, status=fault.status)


def _status(fault: Fault, call: Call, world: World) -> Answer:
    status = fault.status or 500
    if call.path not in FLAVORS:
        return error(call, world, status)
    value = {"error": fault.error or "temporarily_unavailable"}
    return json_answer(
        value if not fault.description else {**value, "error_description": fault.description}, status=status
    )


def _without_end() -> Iterator[bytes]:
    yield b'{"access_token":"'
    while True:
        yield b"A" * 16384
