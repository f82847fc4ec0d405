"""What the shipper asks of a sink, and what it says about one."""

from dataclasses import dataclass
from typing import Protocol

from proxy.events import Event


class SinkUnavailable(OSError):
    """A sink can't take records now; the batch is offered again later."""


class Sink(Protocol):
    """Where records go."""

    name: str

    async def write(self, batch: list[bytes]) -> None:
        """Take all of *batch*, JSON lines without line feed, or raise SinkUnavailable and have it offered again."""

    async def close(self) -> None:
        """Give up what the sink holds; a `write` in progress ends soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailed(Event):
    """A sink does not take records; they are kept."""

    sink: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRecovered(Event):
    """A sink takes records again."""

    sink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFailed(Event):
    """The keeper can't write its stream or read a journal; the workers' journals keep everything meanwhile."""

    cause: str
