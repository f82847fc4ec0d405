"""What goes to one caller: gathered until the turn of the loop ends, for which see `WriteCoalescer`."""

from typing import Any, Final

from proxy.upstream.write_coalescer import WriteCoalescer

# More than that goes out at once: less can't fill the empty buffer of a transport, so that nobody has to wait for room.
_MOST_BYTES: Final = 65536


class Outgoing:
    """Writes to *transport*, in order; after it has been closed, nothing."""

    __slots__ = ("_outbox", "_transport", "_waiting")

    def __init__(self, transport: Any, outbox: WriteCoalescer) -> None:
        self._transport = transport
        self._outbox = outbox
        self._waiting = b""

    def write(self, data: bytes) -> None:
        """Send *data*, at the latest at the end of this turn."""
        if self._waiting:
            self._waiting += data
        else:
            self._waiting = data
            self._outbox.put(self)
        # Behind unsent bytes it may be what fills the transport's buffer, which is asked for room right after this.
        if len(self._waiting) > _MOST_BYTES or self._transport.get_write_buffer_size():
            self.flush()

    def flush(self) -> None:
        """Send now what waits: before anything is done to the transport, and before its room is asked for."""
        data, self._waiting = self._waiting, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __repr__(self) -> str:
        return f"<Outgoing {len(self._waiting)} bytes>"
