"""What goes to one caller: gathered until the turn of the loop ends, for which see `Outbox`."""

from typing import Any, Final

from proxy.upstream.outbox import Outbox

# More than that goes out at once: gathering is for small answers, and what waits here is no one's to count.
_MOST_BYTES: Final = 65536


class Outgoing:
    """Writes to *transport*, in order; after it has been closed, nothing."""

    __slots__ = ("_outbox", "_transport", "_waiting")

    def __init__(self, transport: Any, outbox: Outbox) -> None:
        self._transport = transport
        self._outbox = outbox
        self._waiting = b""

    def write(self, data: bytes) -> None:
        """Send *data* at the end of this turn."""
        if self._waiting:
            self._waiting += data
        else:
            self._waiting = data
            self._outbox.put(self)
        if len(self._waiting) > _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send now what waits: before anything is done to the transport, and before its room is asked for."""
        data, self._waiting = self._waiting, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __repr__(self) -> str:
        return f"<Outgoing {len(self._waiting)} bytes>"
