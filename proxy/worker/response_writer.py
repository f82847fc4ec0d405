"""Writes to one caller, coalesced until the end of the loop iteration (see `WriteCoalescer`)."""

from typing import Any, Final

from proxy.upstream.write_coalescer import WriteCoalescer

# More is sent at once. Less can't fill a transport's empty buffer, so that no wait for room is needed.
_MOST_BYTES: Final = 65536


class Outgoing:
    """Writes to *transport* in order; drops data once the transport is closing."""

    __slots__ = ("_outbox", "_transport", "_waiting")

    def __init__(self, transport: Any, outbox: WriteCoalescer) -> None:
        self._transport = transport
        self._outbox = outbox
        self._waiting = b""

    def write(self, data: bytes) -> None:
        """Send *data* by the end of this loop iteration."""
        if self._waiting:
            self._waiting += data
        else:
            self._waiting = data
            self._outbox.put(self)
        # With unsent bytes in the transport, this write may fill its buffer, which the code checks right after.
        if len(self._waiting) > _MOST_BYTES or self._transport.get_write_buffer_size():
            self.flush()

    def flush(self) -> None:
        """Send pending data now: call this before using the transport or checking its room."""
        data, self._waiting = self._waiting, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __repr__(self) -> str:
        return f"<Outgoing {len(self._waiting)} bytes>"
