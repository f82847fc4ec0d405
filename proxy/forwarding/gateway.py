"""What `forward` works with: the collaborators of one worker under one configuration."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.callers.facade import Facade
from proxy.forwarding.admission import Admission
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.identify import Identifier
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.side_cache import SideCache
from proxy.request_summary import Attempt
from proxy.routing.table import RouteTable
from proxy.tokens.token_cache import TokenCache
from proxy.upstream.pool import Pool


class Intents(Protocol):
    """Where an intent goes before each send; the worker's composition root wires the journal to it."""

    def write(self, exchange: Exchange, attempt: Attempt) -> Awaitable[None] | None:
        """Return what ends once the send may happen, None if it may at once.

        Either raises LogUnavailable, and then nothing may be sent.
        """


class Exchanges(Protocol):
    """Where exchanges begin and end."""

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange."""

    def finish(self, exchange: Exchange) -> None:
        """Take what has ended for record and metrics; never waits."""


class Reporter(Protocol):
    """What is told of exchanges on migrated routes."""

    async def keep(self, digest: str, pin: RetryPin) -> bool:
        """Return once retries of the exchange with this retry digest go where *pin* says; False if it can't be kept."""

    async def claim(self, digest: str, pin: RetryPin) -> bool:
        """Return once no process sends a request with this retry digest but where *pin* says; False if one does."""

    async def news(self, seconds: float) -> None:
        """Return once the keeper has said something of migrations, or *seconds* have passed."""

    def release(self, digest: str, pin: RetryPin) -> None:
        """Let *pin* take the place of one that was made while the exchange was in flight; never waits."""

    def ended(self, row: ExchangeOutcome, /) -> None:
        """Take what came of a send; never waits."""


class BodyDigest(Protocol):
    """What takes a request's body piece by piece, to tell afterwards which one it was."""

    def update(self, piece: bytes, /) -> None:
        """Take the next piece."""

    def hexdigest(self) -> str:
        """Return what stands in the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The data path's collaborators; *pools* by upstream name, *exchange_timeout* in seconds, *max_body* in bytes.

    *now* and *monotonic* are those of a `Clock`: asked so often, they cost less as functions than as methods.

    *body_digest* begins a digest of a body; None where records have none, since a null object costs 0.2 us a body.
    *facade* is the token endpoint for callers; None, for the same reason, where there is none.
    """

    exchanges: Exchanges
    identifier: Identifier
    table: RouteTable
    admission: Admission
    migrations: SideCache
    reporter: Reporter
    tokens: TokenCache
    pools: Mapping[str, Pool]
    intents: Intents
    now: Callable[[], float]
    monotonic: Callable[[], float]
    exchange_timeout: float
    max_body: int
    body_digest: Callable[[], BodyDigest] | None = None
    facade: Facade | None = None
