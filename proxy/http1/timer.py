"""A timer that is moved often and rarely expires."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

NEVER: Final = math.inf


class Cancellable(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> object:
        """Don't call it."""


class Timer:
    """Calls *on_expiry* once *monotonic* has passed `expires`; moving `expires` to later, or to NEVER, costs nothing.

    A loop handle that fires too early is re-armed, so it is replaced only if it would fire too late: once in some
    seconds instead of twice per request (`asyncio.timeout` around each wait was measured at 3 us). *call_later* is
    that of a wheel, where many connections come and go, else the loop's.
    """

    __slots__ = ("_armed", "_call_later", "_cancelled", "_handle", "_monotonic", "_on_expiry", "expires")

    def __init__(
        self,
        on_expiry: Callable[[], None],
        *,
        monotonic: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Cancellable] | None = None,
    ) -> None:
        self.expires = NEVER
        self._on_expiry = on_expiry
        self._monotonic = monotonic
        self._call_later: Any = call_later or asyncio.get_running_loop().call_later
        self._handle: Cancellable | None = None
        self._armed = NEVER  # when the handle will fire
        self._cancelled = False

    def set(self, expires: float) -> None:
        """Change the expiry to *expires*; do nothing after `cancel`."""
        if self._cancelled:
            return
        self.expires = expires
        if expires < self._armed:
            if self._handle is not None:
                self._handle.cancel()
            self._armed = expires
            self._handle = self._call_later(max(expires - self._monotonic(), 0), self._look)

    def start(self, seconds: float, on_expiry: Callable[[], None]) -> None:
        """Call *on_expiry* in *seconds*, instead of what was to be called; do nothing after `cancel`."""
        self._on_expiry = on_expiry
        self.set(self._monotonic() + seconds)

    def cancel(self) -> None:
        """Cancel the timer for good, and leave no handle in the loop."""
        self.expires = self._armed = NEVER
        self._cancelled = True
        self._on_expiry = _nothing  # the callback's owner is most likely the owner of this timer: no cycle remains
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        self._armed = NEVER
        if self._monotonic() < self.expires:
            self.set(self.expires)
        else:
            self.expires = NEVER
            self._on_expiry()


def _nothing() -> None:
    """Do nothing."""
