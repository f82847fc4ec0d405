"""Events that the keeper emits once each; metrics, health, log and records interpret them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event in the keeper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMinted(Event):
    """A token endpoint issued a token; *seconds* the call took, *lifetime* in seconds, *expires* epoch seconds."""

    credential: str
    audience: str
    mint: int
    fingerprint: str
    seconds: float
    lifetime: float
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAdopted(Event):
    """A token that the replica *minter* had minted is in use here as *mint*; *expires* in epoch seconds."""

    credential: str
    audience: str
    mint: int
    fingerprint: str
    minter: str
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSharingFailed(Event):
    """Tokens can't be shared with other replicas: each mints for itself meanwhile."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSharingRecovered(Event):
    """Tokens are shared with other replicas again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSharingStopped(Event):
    """Tokens that other replicas mint are refused here, ours are not: this one is not shared any more."""

    credential: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MintFailed(Event):
    """A token endpoint issued no token; *code* is token_refused or token_unavailable, *error* the endpoint's error."""

    credential: str
    audience: str
    code: str
    error: str
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateExpires(Event):
    """A certificate in use has reached a step before its end (epoch seconds): *words* is "expires in 13 days"."""

    name: str
    use: str
    expires: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkewMeasured(Event):
    """The token endpoint's clock minus ours, in seconds."""

    credential: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process is ready to serve."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded(Event):
    """A worker process ended; *expected*: the keeper had stopped it; *served*: it may have taken requests."""

    worker: int
    pid: int
    exit_code: int
    expected: bool
    served: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNotStarted(Event):
    """A worker process could not be started; the next try is in *retry_in* seconds."""

    worker: int
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHangs(Event):
    """A worker sent no heartbeat for *seconds*: it counts as not ready, or was *killed* to be replaced."""

    worker: int
    pid: int
    seconds: float
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecovered(Event):
    """A worker sends heartbeats again."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReplaced(Event):
    """New files of a credential were verified by a mint and are in use; *fingerprint* is the new key's or secret's."""

    credential: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyReplaced(Event):
    """New files of the key for bodies of *routes* made a signature and are in use; *thumbprint* is the key's."""

    routes: tuple[str, ...]
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningFailed(Event):
    """The key for bodies of *routes*, which had worked, does not sign; said once until it works again."""

    routes: tuple[str, ...]
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRecovered(Event):
    """The key for bodies of *routes* signs again."""

    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementRefused(Event):
    """New files of *what* (a credential's table, or TLS) were rejected, the old ones stay; *retry_in* 0: never."""

    what: str
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReplaced(Event):
    """The configuration with digest *digest* is active; *at_restart* are the changed keys that need a restart."""

    digest: str
    at_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused(Event):
    """A configuration was rejected; the old one stays active."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsUnrecorded(Event):
    """The *worker* that has ended had begun *count* requests that have neither a record nor an intent.

    They began between the epoch seconds *since* and *until*.
    """

    worker: str
    count: int
    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationIncomplete(Event):
    """A configuration is active for callers, but parts of the keeper do not follow it yet; *cause* names them."""

    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRolledBack(Event):
    """The guard rolled a migration back from one weight to another; *reason* has the numbers."""

    migration: str
    weight_before: int
    weight: int
    reason: str
    legacy_token_at_hand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerHeld(Event):
    """The guard keeps a caller of a migration on legacy; *reason* has the numbers."""

    migration: str
    caller: str
    reason: str
    legacy_token_at_hand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardHindered(Event):
    """The guard can't act or can't get its data: it tries again."""

    migration: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown(Event):
    """A worker ended with a request of *route* in flight, whose record says "unknown"."""

    route: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailed(Event):
    """A sink of the request log does not accept records; they are kept."""

    sink: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRecovered(Event):
    """A sink accepts records again."""

    sink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFailed(Event):
    """The keeper can't write its stream or read a journal; the workers' journals keep everything meanwhile."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecovered(Event):
    """The keeper's stream is written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsNotEvaluated(Event):
    """Records are in the request log, but what the keeper shows and does by them misses some: a defect of the proxy."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerCertificatesRefused(Event):
    """Workers have refused certificates of callers in TLS handshakes; *counts* since the last event, by reason."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsLost(Event):
    """A record of kind lifecycle in the request log says that it lacks *count* records."""

    count: int


Observer = Callable[[Event], None]


def fan_out(*observers: Observer) -> Observer:
    """Return an observer that calls all *observers*."""

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observe
