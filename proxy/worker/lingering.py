"""Connections that were answered early and stay only until their callers have sent the rest and read the answer."""

from typing import Protocol


class LingeringConnection(Protocol):
    """What reads and drops, until it is told to end that."""

    def end_linger(self) -> None:
        """Read away nothing more, and close the connection."""


class Lingering:
    """At most *most* at a time: each costs a descriptor, and what strangers send costs the time to read it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[LingeringConnection, None] = {}  # in the order of their last bytes

    def __len__(self) -> int:
        return len(self._connections)

    def heard(self, connection: LingeringConnection) -> None:
        """Count *connection*, from which bytes came just now; if they are too many, the one silent longest ends.

        That one has most likely sent all that it had.
        """
        connections = self._connections
        connections.pop(connection, None)
        connections[connection] = None
        if len(connections) > self._most:
            next(iter(connections)).end_linger()

    def discard(self, connection: LingeringConnection) -> None:
        """Count *connection* no more."""
        self._connections.pop(connection, None)

    def __repr__(self) -> str:
        return f"<Lingering {len(self._connections)}/{self._most}>"
