"""What the shipper asks of a sink."""

from typing import Protocol


class SinkUnavailable(OSError):
    """A sink can't take records now; the batch is offered again later."""


class Sink(Protocol):
    """Where records go; one that has a `target` says by that whether it is the same place as before."""

    name: str

    async def write(self, batch: list[bytes]) -> None:
        """Take all of *batch*, JSON lines without line feed, or raise SinkUnavailable and have it offered again."""

    async def close(self) -> None:
        """Give up what the sink holds; a `write` in progress ends soon."""
