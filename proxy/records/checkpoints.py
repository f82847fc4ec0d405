"""What the keeper puts into the stream between the records: a start, a checkpoint every minute, a clean stop."""

from typing import Protocol


class Checkpoints(Protocol):
    """Builds records, lines without line feed, that say how far the chain was and that it was left in order."""

    def start(self) -> bytes:
        """Return the record that comes before all others of this keeper, b"" for none."""

    def checkpoint(self, sequence: int, hash_: str) -> bytes:
        """Return the record that vouches for the chain up to record *sequence* with *hash_*, b"" for none."""

    def stop(self) -> bytes:
        """Return the record that says that nothing follows, b"" for none."""


class NoCheckpoints:
    """Puts none."""

    def __repr__(self) -> str:
        return "<NoCheckpoints>"

    def start(self) -> bytes:
        """Return b""."""
        return b""

    def checkpoint(self, sequence: int, hash_: str) -> bytes:  # noqa: ARG002 - the protocol's signature
        """Return b""."""
        return b""

    def stop(self) -> bytes:
        """Return b""."""
        return b""
