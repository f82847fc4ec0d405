"""What happened, said once by the keeper; metrics, health, log and records interpret it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in the keeper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMinted(Event):
    """A token endpoint gave a token; *seconds* the call took, *lifetime* in seconds, *expires* epoch seconds."""

    credential: str
    audience: str
    mint: int
    fingerprint: str
    seconds: float
    lifetime: float
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MintFailed(Event):
    """A token endpoint gave no token; *code* is token_refused or token_unavailable, *error* the endpoint's own word."""

    credential: str
    audience: str
    code: str
    error: str
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkewMeasured(Event):
    """The token endpoint's clock minus ours, in seconds."""

    credential: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process serves."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded(Event):
    """A worker process ended; *expected* when it was told to."""

    worker: int
    pid: int
    exit_code: int
    expected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNotStarted(Event):
    """A worker process could not be started; it is tried again in *retry_in* seconds."""

    worker: int
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHangs(Event):
    """A worker was not heard for *seconds*: it counts as not ready, or was *killed* so that another takes its place."""

    worker: int
    pid: int
    seconds: float
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecovered(Event):
    """A worker that was not heard is heard again."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReplaced(Event):
    """New files of a credential were proven by a mint and are in use; *fingerprint* is the new key's or secret's."""

    credential: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementRefused(Event):
    """New files of *what* (a credential's table, or TLS) were not taken, the old ones stay; *retry_in* 0: never."""

    what: str
    cause: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReplaced(Event):
    """The configuration named *digest* is in force; *at_restart* are the changed keys that wait for a restart."""

    digest: str
    at_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused(Event):
    """A configuration was not taken, the old one stays in force."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRolledBack(Event):
    """The guard took a migration from one weight back to another; *reason* has the numbers."""

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
    """The guard can't do what has to be done, or can't see: it tries again."""

    migration: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailed(Event):
    """A sink of the request log does not take records; they are kept."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecovered(Event):
    """The keeper's stream is written again."""


Observer = Callable[[Event], None]


def fan_out(*observers: Observer) -> Observer:
    """Return an observer that tells all *observers*; of none it does nothing."""

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observe
