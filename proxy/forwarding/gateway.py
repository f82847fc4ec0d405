"""The collaborators of `forward` in one worker under one configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from proxy.callers.facade import Facade
from proxy.clock import Clock
from proxy.forwarding.admission import Admission
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.identify import Identifier
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.side_cache import SideCache
from proxy.request_summary import Attempt
from proxy.routing.request_head import HeadLimits
from proxy.routing.table import RouteTable
from proxy.settings.worker_values import UpstreamValues
from proxy.tokens.token_cache import TokenCache
from proxy.upstream.opener import Upstream
from proxy.upstream.pool import Pool


class Intents(Protocol):
    """Writes an intent before each send; the worker's `ExchangeLog` implements it with the journal."""

    async def write(self, exchange: Exchange, attempt: Attempt) -> None:
        """Return once the send may start; raises LogUnavailable: then nothing may be sent."""


class Exchanges(Protocol):
    """Starts and finishes exchanges."""

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange."""

    def finish(self, exchange: Exchange) -> None:
        """Record and count a finished exchange; never waits."""


class Reporter(Protocol):
    """Sends the keeper information about exchanges on migrated routes."""

    async def keep(self, digest: str, pin: RetryPin) -> bool:
        """Return True once retries with this retry digest go where *pin* says; False if the pin can't be stored."""

    async def claim(self, digest: str, pin: RetryPin) -> bool:
        """Return True once every process sends requests with this digest only where *pin* says; False if one can't."""

    async def wait_for_change(self, seconds: float) -> None:
        """Return once the keeper has sent a message about migrations, or after *seconds*."""

    def release(self, digest: str, pin: RetryPin) -> None:
        """Replace the pin made while the exchange was in flight by *pin*; never waits."""

    def ended(self, row: ExchangeOutcome, /) -> None:
        """Report the outcome of a send; never waits."""


class Signer(Protocol):
    """Has bodies signed in the keeper; the worker's `SignatureRequests` implements it."""

    async def sign(self, route: str, digest: bytes, *, caller: str) -> tuple[str, str]:
        """Return a signature in base64url by the key of *route*, and the key's thumbprint.

        *digest* is the SHA-256 of the signing input; callers get theirs in turn. Raises SignatureUnavailable.
        """


class BodyDigest(Protocol):
    """An incremental digest of a request body."""

    def update(self, piece: bytes, /) -> None:
        """Add the next piece."""

    def hexdigest(self) -> str:
        """Return the digest for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The data path's collaborators; *pools* by upstream name, *exchange_timeout* in seconds, *max_body* in bytes.

    *now* and *monotonic* are those of a `Clock`: called so often, functions cost less than methods. *body_digest*
    starts a digest of a body; None if records have none (a null object would cost 0.2 us a body). *facade* is the token
    endpoint for callers; None, for the same reason, if there is none.
    """

    exchanges: Exchanges
    head_limits: HeadLimits
    identifier: Identifier
    table: RouteTable
    admission: Admission
    migrations: SideCache
    reporter: Reporter
    tokens: TokenCache
    signer: Signer
    pools: Mapping[str, Pool]
    intents: Intents
    now: Callable[[], float]
    monotonic: Callable[[], float]
    exchange_timeout: float
    max_body: int
    body_digest: Callable[[], BodyDigest] | None = None
    facade: Facade | None = None


def make_pools(upstreams: Iterable[UpstreamValues], *, clock: Clock) -> dict[str, Pool]:
    """Return a pool for each of *upstreams*, by name; raises TlsUnusable if a certificate file can't be used."""
    names = [field.name for field in fields(Upstream)]
    return {
        values.name: Pool(Upstream(**{name: getattr(values, name) for name in names}), clock=clock)
        for values in upstreams
    }
