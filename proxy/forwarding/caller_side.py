"""What `forward` needs of the connection to the caller; the worker's listener provides it."""

from collections.abc import Callable
from typing import Protocol

from proxy.routing.head import RawHead


class CallerLeft(Exception):
    """The caller's connection is gone; there is nobody to answer."""


class CallerSide(Protocol):
    """One request of a caller and the way back to it."""

    @property
    def raw(self) -> RawHead:
        """Return the head as the parser gave it."""

    @property
    def peer(self) -> str:
        """Return the address at the other end of the connection, "unix" for a Unix socket."""

    @property
    def certificate_subject(self) -> str:
        """Return the subject of the caller's certificate (RFC 4514), or ""."""

    @property
    def left(self) -> bool:
        """Return whether the caller's connection is gone."""

    @property
    def begun(self) -> bool:
        """Return whether an answer has begun."""

    def body_begun(self) -> bool:
        """Return whether some of the body has arrived, so that the caller waits for no 100 Continue."""

    async def read_body(self) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises CallerLeft, or BadRequest: 408 when no byte came for 60 s, 400 when its framing broke.
        """

    def cut_off_when_left(self, abort: Callable[[], None]) -> None:
        """Call *abort* at once if the caller leaves from now on."""

    def say_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""

    def will_close(self) -> bool:
        """Return whether the connection ends with this answer."""

    def close_after(self) -> None:
        """End the connection with this answer."""

    def write(self, data: bytes) -> None:
        """Send *data* without waiting; nothing happens when the caller has left."""

    @property
    def clogged(self) -> bool:
        """Return whether `drain` would wait or raise; if not, awaiting it can be spared."""

    async def drain(self) -> None:
        """Wait until the caller has taken enough; raises CallerLeft, also when it took nothing for 60 s."""

    def abort(self) -> None:
        """Cut the connection so that the caller sees that the answer is not whole."""
