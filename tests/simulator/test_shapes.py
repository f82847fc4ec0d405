import json

import pytest

from proxy.entropy import SystemEntropy
from proxy.simulator.call import Call
from proxy.simulator.received import Received
from proxy.simulator.shapes import error, refused_token
from proxy.simulator.world import World
from tests.support.clock import ManualClock


def at(path: str) -> tuple[Call, World]:
    """Return a call to *path* and a world."""
    received = Received(when=0, port=0, method="POST", target=path, headers=())
    call = Call(method="POST", target=path, path=path, headers=(), peer="", received=received)
    return call, World(clock=ManualClock(), entropy=SystemEntropy())


@pytest.mark.parametrize(
    ("path", "status", "key"),
    [
        ("/payment/v2/payments", 401, "context"),
        ("/tsapi/v2/validations", 403, "errors"),
        ("/api/v1/reports", 401, "context"),
        ("/api/v2/payments", 401, "responseCode"),
        ("/documents", 401, "context"),
        ("/echo", 401, "context"),
    ],
)
def test_each_family_refuses_a_token_in_its_way(path: str, status: int, key: str) -> None:
    """Status and shape are the family's."""
    answer = refused_token(*at(path))

    assert isinstance(answer.body, bytes)
    assert (answer.status, key in json.loads(answer.body)) == (status, True)


@pytest.mark.parametrize("path", ["/payment/v2/payments", "/tsapi/v2/validations"])
def test_429_says_9005(path: str) -> None:
    """The bank's own number for its rate limit."""
    answer = error(*at(path), 429)

    assert answer.status == 429
    assert isinstance(answer.body, bytes)
    assert b'"9005"' in answer.body


def test_503_says_when_to_come_back() -> None:
    """600 s, as the bank documents."""
    assert error(*at("/payment/v2/payments"), 503).headers["Retry-After"] == "600"


def test_a_status_without_a_name_has_a_body_too() -> None:
    """Odd codes are answered, not crashed on."""
    assert error(*at("/payment/v2/payments"), 599).status == 599
