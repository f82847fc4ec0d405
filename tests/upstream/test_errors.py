import socket
import ssl

import pytest

from proxy.errors import Sent
from proxy.upstream.errors import HandshakeBroken, broken, unreachable, unsent


@pytest.mark.parametrize(
    ("error", "detail", "cause"),
    [
        (TimeoutError(), "in time", "bank:443: timed out"),
        (ConnectionRefusedError(111, "Connection refused"), "can't be reached", "bank:443: Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name", "bank:443: Name or service not known"),
        (ssl.SSLError(1, "some text"), "TLS", "bank:443: failed"),
        (HandshakeBroken("ended"), "TLS", "bank:443: ended"),
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 443)"), "can't", "bank:443: Connection refused"),
        (ConnectionResetError(), "can't be reached", "bank:443: ConnectionResetError"),
        (OSError("the egress proxy answered CONNECT with 403"), "can't be reached", "bank:443: the egress proxy"),
    ],
)
def test_what_kept_a_connection_from_opening_is_told_to_the_operator(error: OSError, detail: str, cause: str) -> None:
    """The caller learns the kind, the operator where and why; nothing was sent."""
    fault = unreachable(error, where="bank:443")
    assert fault.sent is Sent.NO
    assert detail in fault.detail
    assert "443" not in fault.detail
    assert fault.cause.startswith(cause)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (None, "closed by the bank"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (ssl.SSLError(1, "some text"), "TLS: failed"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_ended_a_connection_is_told_to_the_operator(error: Exception | None, cause: str) -> None:
    """A connection that broke under an exchange leaves its outcome unknown."""
    fault = broken(error)
    assert (fault.sent, fault.cause) == (Sent.UNKNOWN, cause)


def test_an_unsent_request_says_so() -> None:
    """Not a byte was handed over, so a later try is safe."""
    fault = unsent("the pool is closed")
    assert (fault.sent, fault.retryable, fault.cause) == (Sent.NO, True, "the pool is closed")
