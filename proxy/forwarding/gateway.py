"""What `forward` works with: the collaborators of one worker under one configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.clock import Clock
from proxy.forwarding.admission import Admission
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Attempt, Exchange
from proxy.forwarding.reception import Reception
from proxy.routing.table import RouteTable
from proxy.tokens.board import Board
from proxy.upstream.pool import Pool


class Intents(Protocol):
    """Where an intent goes before each send; the worker's composition root wires the journal to it."""

    async def write(self, exchange: Exchange, attempt: Attempt) -> None:
        """Return once the send may happen; raises LogUnavailable, and then nothing may be sent."""


class Ledger(Protocol):
    """Where exchanges begin and end."""

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange."""

    def finish(self, exchange: Exchange) -> None:
        """Take what has ended for record and metrics; never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The data path's collaborators; *pools* by upstream name, *exchange_timeout* in seconds, *max_body* in bytes."""

    ledger: Ledger
    reception: Reception
    table: RouteTable
    admission: Admission
    board: Board
    pools: Mapping[str, Pool]
    intents: Intents
    clock: Clock
    exchange_timeout: float
    max_body: int
