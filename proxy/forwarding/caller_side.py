"""What `forward` needs of the connection to the caller; the worker's listener provides it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from proxy.request_summary import RequestSummary
from proxy.routing.request_head import RawHead


class CallerLeft(Exception):
    """The caller's connection is gone; there is nobody to answer."""


class CallerSide(ABC):
    """One request of a caller and the way back to it.

    *raw* is the head as the parser gave it; *peer* the address at the other end of the connection, "unix" for a Unix
    socket; *certificate_subject* that of the caller's certificate (RFC 4514), or "". `left`: the caller's connection is
    gone; `account` is told when, by `monotonic`, once both are set. `begun`: an answer has begun. A class rather than a
    protocol: as such the data path reads it at no cost.
    """

    __slots__ = ("account", "begun", "certificate_subject", "left", "monotonic", "peer", "raw")

    def __init__(self, raw: RawHead, *, peer: str, certificate_subject: str, left: bool) -> None:
        self.raw = raw
        self.peer = peer
        self.certificate_subject = certificate_subject
        self.left = left
        self.begun = False
        self.account: RequestSummary | None = None
        self.monotonic: Callable[[], float] | None = None

    @abstractmethod
    def body_begun(self) -> bool:
        """Return whether some of the body has arrived, so that the caller waits for no 100 Continue."""

    @abstractmethod
    def whole_body(self) -> bytes | None:
        """Return the body if all of it came with the head, and has not been read; raises CallerLeft."""

    @abstractmethod
    async def read_body(self, within: float) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises CallerLeft, BodyTooLarge when a chunk is announced beyond max_body_bytes, or BadRequest: 408 when no byte
        came for 60 s or *within* seconds, 400 when its framing broke.
        """

    @abstractmethod
    def cut_off_when_left(self, abort: Callable[[], None]) -> None:
        """Call *abort* at once if the caller leaves from now on."""

    @abstractmethod
    def cut_off_no_more(self) -> None:
        """Call nothing if the caller leaves from now on."""

    @abstractmethod
    def say_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""

    @abstractmethod
    def will_close(self) -> bool:
        """Return whether the connection ends with this answer; once said, it does."""

    @abstractmethod
    def close_after(self) -> None:
        """End the connection with this answer."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send *data* without waiting; nothing happens when the caller has left."""

    @abstractmethod
    def clogged(self) -> bool:
        """Return whether `drain` would wait or raise; if not, awaiting it can be spared."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the caller has taken enough; raises CallerLeft, also when it took nothing for 60 s."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the connection with a reset, so that even an answer without a length can't pass for a whole one."""
