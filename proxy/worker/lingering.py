"""Connections in lingering close: answered before the whole request was read; the rest is read and dropped."""

from typing import Protocol


class LingeringConnection(Protocol):
    """A connection that reads and drops data until `end_linger`."""

    def end_linger(self) -> None:
        """Stop reading and close the connection."""


class Lingering:
    """Limits lingering connections to *most*: each costs a descriptor, and CPU time to read what is dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[LingeringConnection, None] = {}  # ordered by the time of their last bytes

    def __len__(self) -> int:
        return len(self._connections)

    def heard(self, connection: LingeringConnection) -> None:
        """Register *connection*, which has just received bytes; above the limit, end the one that was idle longest.

        That one has most likely sent everything.
        """
        connections = self._connections
        connections.pop(connection, None)
        connections[connection] = None
        if len(connections) > self._most:
            next(iter(connections)).end_linger()

    def discard(self, connection: LingeringConnection) -> None:
        """Remove *connection*."""
        self._connections.pop(connection, None)

    def __repr__(self) -> str:
        return f"<Lingering {len(self._connections)}/{self._most}>"
