"""Every message between keeper and worker."""

from typing import Annotated, NamedTuple

from proxy.link.counts import Counts
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.pin_rows import Pins
from proxy.migration.side_settings import SideSettings
from proxy.secret import Secret
from proxy.settings.worker_values import Snapshot

Digest = Annotated[str, "16 hex digits"]
Sha256 = Annotated[str, "64 hex digits"]


# The classes are NamedTuples: 20 frozen dataclasses would take 0.2 MB of each worker.
# From the keeper to a worker:


class Serve(NamedTuple):
    """The first message: listen on *sockets* (descriptors) as *worker*, one of *workers*, once `Accept` follows.

    *counter* is the descriptor of its `request_counter`, -1 for none.
    """

    snapshot: Snapshot
    worker: str
    workers: int
    sockets: tuple[int, ...]
    counter: int = -1


class Accept(NamedTuple):
    """Accept callers' connections: all weights, retry pins and tokens were sent."""


class Drain(NamedTuple):
    """Stop listening in *grace* seconds, finish what is in flight and exit.

    *handed_over*: other workers listen on the same sockets.
    """

    grace: float
    handed_over: bool


class MigrationStates(NamedTuple):
    """All migrations; the worker answers a *serial* with its keys in flight that would now go to the other side."""

    states: dict[str, SideSettings]
    readable: bool
    serial: int = 0


class ReplicaContact(NamedTuple):
    """Until monotonic *until* no other replica goes on without this one; 0.0: the states say what is known."""

    until: float


class NewPins(NamedTuple):
    """Retry pins that are on disk; the worker answers a *serial* once it has them."""

    pins: Pins
    serial: int = 0


class ClaimCheck(NamedTuple):
    """Another worker wants to send the request *digest* where *pin* says: the worker answers whether it may."""

    digest: Digest
    pin: RetryPin
    serial: int = 0


class ClaimDropped(NamedTuple):
    """The claim of *digest* has failed."""

    digest: Digest


class PinAnswer(NamedTuple):
    """The answer to a `PinRequest` or `ClaimRequest`."""

    ask: int
    kept: bool


class TokenValue(NamedTuple):
    """A token; times are monotonic seconds. *value* is the only secret on the link."""

    mint: int
    value: Secret
    origins: tuple[str, ...]
    minted: float
    stale_at: float
    expires: float


class TokenFailure(NamedTuple):
    """Why there is no token: *code* token_refused or token_unavailable; *until*: monotonic time of the next attempt.

    *code* and *detail* may go to callers, *cause* to the operator only.
    """

    code: str
    detail: str
    cause: str
    until: float


class TokenUpdate(NamedTuple):
    """The token of the token key *key* (its digest), or why there is none."""

    key: str
    token: TokenValue | None
    failure: TokenFailure | None


class TokenAsked(NamedTuple):
    """Report the next acceptance of the token *mint* of *key*, by a request sent at monotonic *since* or later."""

    key: str
    mint: int
    since: float


class RefusalAnswer(NamedTuple):
    """The answer to a `TokenRefusal`: "replaced", "kept" or "failed"; a new token was sent before."""

    ask: int
    outcome: str


class SignatureAnswer(NamedTuple):
    """The answer to a `SignatureRequest`: *signature* in base64url by the key with the thumbprint *key* (RFC 7638).

    Or none, and *cause* says why, for the operator only.
    """

    ask: int
    signature: str
    key: str
    cause: str


# From a worker to the keeper:


class Ready(NamedTuple):
    """The worker can serve."""


class WorkerReport(NamedTuple):
    """What was counted since the last report, and the worker's state; each second, as heartbeat too.

    *late* requests wait long for the bank; *late_seconds* and *late_route* are of the oldest.
    """

    counts: Counts
    journal_problem: str = ""
    full: bool = False
    in_flight: int = 0
    connections: int = 0
    late: int = 0
    late_seconds: float = 0.0
    late_route: str = ""


class TokenRefusal(NamedTuple):
    """The upstream refused to *source* on *route* the token with serial *mint* of the token key *key*.

    *source* is what `tokens.refusals.source_of` makes of the request. *behind*: the request went on with another token,
    as those that follow can.
    """

    ask: int
    key: str
    mint: int
    route: str
    source: str
    behind: bool


class TokenAccepted(NamedTuple):
    """The upstream accepted the token *mint* of *key* in a request sent at monotonic *sent*.

    Once for each token, and once after each `TokenAsked`.
    """

    key: str
    mint: int
    sent: float


class Replayed(NamedTuple):
    """The outcome of sending a request of *source* again with a newer token, that with the serial *mint*."""

    key: str
    mint: int
    route: str
    refused_again: bool
    source: str


class Outcomes(NamedTuple):
    """Outcomes of exchanges on migrated routes."""

    rows: tuple[ExchangeOutcome, ...]


class PinRequest(NamedTuple):
    """Keep *pin* on disk and in all processes; `PinAnswer` follows, unless *ask* is 0."""

    ask: int
    digest: Digest
    pin: RetryPin


class PinRelease(NamedTuple):
    """Replace a pin made while an exchange was in flight by *pin*, which ends soon."""

    digest: Digest
    pin: RetryPin


class ClaimRequest(NamedTuple):
    """Have all processes agree that the request *digest* goes where *pin* says; `PinAnswer` follows."""

    ask: int
    digest: Digest
    pin: RetryPin


class SignatureRequest(NamedTuple):
    """Sign the signing input of a JWS (RFC 7515 5.1) with this SHA-256 *digest* by the key of *route*, for *caller*."""

    ask: int
    route: str
    digest: Sha256
    caller: str


class Acknowledged(NamedTuple):
    """The answer to a message with *serial*: to a `ClaimCheck` *agreed*, to `MigrationStates` *pins*."""

    serial: int
    agreed: bool = True
    pins: Pins = {}  # noqa: RUF012 - never changed


Numbered = MigrationStates | NewPins | ClaimCheck
ToWorker = (
    Serve
    | Accept
    | Drain
    | Numbered
    | ReplicaContact
    | ClaimDropped
    | PinAnswer
    | TokenUpdate
    | TokenAsked
    | RefusalAnswer
    | SignatureAnswer
)
ToKeeper = (
    Ready
    | WorkerReport
    | TokenRefusal
    | TokenAccepted
    | Replayed
    | Outcomes
    | PinRequest
    | PinRelease
    | ClaimRequest
    | SignatureRequest
    | Acknowledged
)
Message = ToWorker | ToKeeper
