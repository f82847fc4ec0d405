"""Every message between keeper and worker, and its form on the link: a JSON array of its name and its fields."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

from proxy.migration.former import FormerSetting, former_of
from proxy.migration.outcome import ExchangeOutcome, outcome_of
from proxy.migration.pin import RetryPin
from proxy.migration.pin_rows import Pins, digest_of, pin_of, pin_row
from proxy.migration.side import Policy
from proxy.migration.side_settings import SideSettings, policy_from, policy_row
from proxy.secret import Secret
from proxy.settings.worker_values import Snapshot

Reader = Callable[[Any], Any]
Digest = Annotated[str, "16 hex digits"]


# The classes are NamedTuples: 20 frozen dataclasses would take 0.2 MB of each worker.
# From the keeper to a worker:


class Serve(NamedTuple):
    """The first message: listen on *sockets* (descriptors) as *worker*, one of *workers*, once `Accept` follows."""

    snapshot: Snapshot
    worker: str
    workers: int
    sockets: tuple[int, ...]


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


class RefusalAnswer(NamedTuple):
    """The answer to a `TokenRefusal`: "replaced", "kept" or "failed"; a new token was sent before."""

    ask: int
    outcome: str


# From a worker to the keeper:


class Ready(NamedTuple):
    """The worker can serve."""


class WorkerReport(NamedTuple):
    """Counters since the last report (`telemetry.counters`) and the worker's state; each second, as heartbeat too."""

    delta: dict[str, list[Any]]
    journal_problem: str = ""
    full: bool = False
    in_flight: int = 0
    connections: int = 0


class TokenRefusal(NamedTuple):
    """The upstream refused on *route* the token with serial *mint* of the token key *key*.

    *worked*: it had accepted it from this worker before.
    """

    ask: int
    key: str
    mint: int
    route: str
    worked: bool = False


class Replayed(NamedTuple):
    """The outcome of sending a request again with a newer token."""

    key: str
    route: str
    refused_again: bool


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


class Acknowledged(NamedTuple):
    """The answer to a message with *serial*: to a `ClaimCheck` *agreed*, to `MigrationStates` *pins*."""

    serial: int
    agreed: bool = True
    pins: Pins = {}  # noqa: RUF012 - never changed


Numbered = MigrationStates | NewPins | ClaimCheck
ToWorker = Serve | Accept | Drain | Numbered | ClaimDropped | PinAnswer | TokenUpdate | RefusalAnswer
ToKeeper = (
    Ready | WorkerReport | TokenRefusal | Replayed | Outcomes | PinRequest | PinRelease | ClaimRequest | Acknowledged
)
Message = ToWorker | ToKeeper


class MessageInvalid(ValueError):
    """A message of a kind that is unknown here, or malformed; the text quotes nothing of it."""


def encode(message: Message) -> bytes:
    """Return *message* as a line."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":"), default=_plain).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of *line*; raise MessageInvalid, another ValueError if it is no list with a name."""
    try:
        value = _list(json.loads(line))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    kind = _KINDS.get(str(value[0]) if value else "")
    if kind is None:
        raise MessageInvalid("a message of an unknown kind")
    try:
        return typing.cast("Message", _reader(kind)(value[1:]))
    except (ValueError, TypeError, LookupError, AttributeError):
        raise MessageInvalid(f"a malformed {value[0]}") from None


def _plain(value: Any) -> Any:
    """Return *value* in types that json knows; tuples it knows itself."""
    match value:
        case RetryPin():
            return pin_row("", value)[1:]
        case FormerSetting():
            return value.row()
        case Policy():
            return policy_row(value)
        case Secret():
            return value.reveal()
        case frozenset():
            return sorted(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _number(value: Any) -> float:
    # No number of the link is negative. The comparison is also false for NaN and infinity, which json.loads accepts.
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        raise TypeError("no number")
    return float(value)


def _exact(kind: type) -> Reader:
    def read(value: Any) -> Any:
        # type() and not isinstance(): True is an int too.
        if type(value) is not kind:
            raise TypeError(f"no {kind.__name__}")
        return value

    return read


# By kind of value, what makes one from JSON, or raises ValueError, TypeError, LookupError or AttributeError. Types of
# compiled modules are here, since their annotations can't be read.
_READERS: dict[Any, Reader] = {
    Any: lambda value: value,
    bool: _exact(bool),
    str: _exact(str),
    int: _exact(int),
    float: _number,
    Secret: lambda value: Secret(_exact(str)(value)),
    Digest: digest_of,
    RetryPin: pin_of,
    Pins: lambda value: {digest_of(digest): pin_of(row) for digest, row in value.items()},
    Policy: policy_from,
    tuple[FormerSetting, ...]: former_of,
    ExchangeOutcome: outcome_of,
}


def _reader(kind: Any) -> Reader:
    """Return what makes a *kind* from a JSON value."""
    if kind not in _READERS:
        origin, of = typing.get_origin(kind), typing.get_args(kind)
        _READERS[kind] = _container(origin, of) if origin else _record(kind)
    return _READERS[kind]


def _container(origin: Any, of: tuple[Any, ...]) -> Reader:
    first, *others = [_reader(one) for one in of if one not in (Ellipsis, types.NoneType)]
    if origin is types.UnionType:  # with None
        return lambda value: None if value is None else first(value)
    if origin is dict:
        return lambda value: {first(key): others[0](one) for key, one in value.items()}
    if origin is tuple and others:
        return lambda value: tuple(read(one) for read, one in zip((first, *others), _list(value), strict=True))
    return lambda value: origin(map(first, _list(value)))


def _record(kind: Any) -> Reader:
    """Return what makes a NamedTuple from a list, or a dataclass from an object."""
    fields = {name: _reader(one) for name, one in typing.get_type_hints(kind, include_extras=True).items()}
    if dataclasses.is_dataclass(kind):
        return lambda value: typing.cast("Any", kind)(**{name: fields[name](one) for name, one in value.items()})
    return lambda value: kind(*(read(one) for read, one in zip(fields.values(), _list(value), strict=True)))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("no list")  # noqa: TRY004 - the peer's data, not ours
    return value


_KINDS: Final = {kind.__name__: kind for kind in typing.get_args(Message)}
