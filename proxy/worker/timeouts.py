"""Timeouts for callers."""

from dataclasses import dataclass
from typing import Final

from proxy.forwarding.headers import KEEP_ALIVE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerTimeouts:
    """Timeouts in seconds for a head, between pieces of a body, for reading a response, between two requests.

    With TLS the handshake has *handshake* seconds from the moment of connecting.

    After a response that was sent before the whole request was read, the rest is read and dropped, whatever its size,
    until nothing comes for *linger_gap* seconds or *linger* seconds have passed: unread bytes at close make the kernel
    send a reset, which destroys the response at the caller (RFC 9112 9.6). The numbers are nginx's (lingering_timeout,
    lingering_time). At most *lingering* connections are in that state.
    """

    handshake: float = 10.0
    head: float = 10.0
    body_gap: float = 60.0
    unread_answer: float = 60.0
    # Longer than announced: the caller closes first, so that no request is sent to a connection that we close.
    idle: float = KEEP_ALIVE_SECONDS + 5.0
    linger_gap: float = 5.0
    linger: float = 30.0
    lingering: int = 256


CALLER_TIMEOUTS: Final = CallerTimeouts()
