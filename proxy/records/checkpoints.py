"""Records that the keeper adds to the stream: a start, a checkpoint every minute, a clean stop."""

from typing import Protocol


class Checkpoints(Protocol):
    """Builds records, lines without line feed, that attest the chain's state and a clean shutdown."""

    def start(self) -> bytes:
        """Return the first record of this keeper process, b"" for none."""

    def checkpoint(self, sequence: int, hash_: str) -> bytes:
        """Return a record that attests the chain up to record *sequence* with *hash_*, b"" for none."""

    def stop(self) -> bytes:
        """Return the record of a clean stop, b"" for none."""


class NoCheckpoints:
    """Builds no records."""

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
