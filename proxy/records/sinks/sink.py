"""The interface of a sink, as the shipper uses it."""

from typing import Protocol


class SinkUnavailable(OSError):
    """A sink can't take records now; the batch is offered again later."""


class Sink(Protocol):
    """A destination of records; an optional `target` identifies the place it writes to."""

    name: str

    async def write(self, batch: list[bytes]) -> None:
        """Take all of *batch*, JSON lines without line feed, or raise SinkUnavailable to get it again."""

    async def close(self) -> None:
        """Release all resources; a `write` in progress ends soon."""
