"""A sink and its position in the stream, as the shipper keeps them, and its state for display."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.records.sinks.sink import Sink
from proxy.records.stream import Position


class SinkState(NamedTuple):
    """A sink: records that it has not taken yet, those that it refused for good, and why it fails now, "" if not."""

    name: str
    backlog: int
    dropped: int
    failing: str


@dataclass(slots=True, kw_only=True)
class Outlet:
    """A sink and its position in the stream; *failing* is why its last write failed, "" if it did not."""

    sink: Sink
    position: Position = field(default_factory=lambda: Position(1, 0, 0))
    failing: str = ""
    delivered: asyncio.Event = field(default_factory=asyncio.Event)

    def state(self, end: Position) -> SinkState:
        """Return the state of the sink while the stream ends at *end*."""
        backlog = max(0, end.sequence - self.position.sequence)
        return SinkState(self.sink.name, backlog, getattr(self.sink, "dropped", 0), self.failing)
