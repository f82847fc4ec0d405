"""The interface of the connection to the caller that `forward` uses; the worker's listener implements it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from proxy.request_summary import RequestSummary
from proxy.routing.request_head import RawHead


class CallerLeft(Exception):
    """The caller has closed the connection; nobody can be answered."""


class CallerSide(ABC):
    """One request of a caller and its response channel.

    *raw* is the parsed head; *peer* the address of the connection's other end, "unix" for a Unix socket;
    *certificate_subject* that of the caller's certificate (RFC 4514), or "". `left`: the caller has disconnected; if
    `summary` and `monotonic` are set, `summary` gets the time. `started`: a response was started. An abstract class and
    no protocol, because the compiled data path then reads its attributes at no cost.
    """

    __slots__ = ("certificate_subject", "left", "monotonic", "peer", "raw", "started", "summary")

    raw: RawHead
    peer: str
    certificate_subject: str
    left: bool
    started: bool
    summary: RequestSummary | None
    monotonic: Callable[[], float] | None

    @abstractmethod
    def body_started(self) -> bool:
        """Return whether a part of the body has arrived; then the caller does not wait for 100 Continue."""

    @abstractmethod
    def whole_body(self) -> bytes | None:
        """Return the body if all of it arrived with the head and has not been read, else None; raises CallerLeft."""

    @abstractmethod
    async def read_body(self, within: float) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises CallerLeft, BodyTooLarge if a chunk is announced beyond max_body_bytes, or BadRequest: 408 if no byte
        came for 60 s or *within* seconds, 400 if its framing is invalid.
        """

    @abstractmethod
    def call_when_left(self, abort: Callable[[], None]) -> None:
        """From now on, call *abort* immediately if the caller disconnects."""

    @abstractmethod
    def call_nothing_when_left(self) -> None:
        """From now on, call nothing if the caller disconnects."""

    @abstractmethod
    def send_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""

    @abstractmethod
    def will_close(self) -> bool:
        """Return whether the connection closes after this response; once True, it stays True."""

    @abstractmethod
    def close_after(self) -> None:
        """Close the connection after this response."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send *data* without waiting; do nothing if the caller has disconnected."""

    @abstractmethod
    def write_would_block(self) -> bool:
        """Return whether `drain` would wait or raise; if not, the caller of this method may skip it."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the write buffer has room; raises CallerLeft, also if the caller read nothing for 60 s."""

    @abstractmethod
    def abort(self) -> None:
        """Close the connection with a reset: a truncated response without a length must not pass for a complete one."""
