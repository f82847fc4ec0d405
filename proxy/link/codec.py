"""The form of a message on the link: a line with a JSON array of its name and its fields."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from proxy.errors import MALFORMED
from proxy.link.counts import Label, StatusCode
from proxy.link.messages import Digest, Message, Sha256
from proxy.migration.former import FormerSetting, former_of
from proxy.migration.outcome import ExchangeOutcome, outcome_of
from proxy.migration.pin import RetryPin
from proxy.migration.pin_rows import Pins, digest_of, pin_of, pin_row
from proxy.migration.side import Policy
from proxy.migration.side_settings import policy_from, policy_row
from proxy.secret import Secret

Reader = Callable[[Any], Any]

_LONGEST_LABEL = 300
_SHA256_DIGITS = 64
_HEX = frozenset("0123456789abcdef")


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
    except MALFORMED:
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


def _label(value: Any) -> str:
    if type(value) is not str or len(value) > _LONGEST_LABEL:
        raise TypeError("no label")
    return value


def _status_code(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 999:
        raise TypeError("no status")
    return value


def _sha256(value: Any) -> str:
    if type(value) is not str or len(value) != _SHA256_DIGITS or not _HEX.issuperset(value):
        raise TypeError("no digest")
    return value


# By kind of value, what makes one from JSON, or raises ValueError, TypeError, LookupError or AttributeError. Types of
# compiled modules are here, since their annotations can't be read.
_READERS: dict[Any, Reader] = {
    bool: _exact(bool),
    str: _exact(str),
    int: _exact(int),
    float: _number,
    Secret: lambda value: Secret(_exact(str)(value)),
    Label: _label,
    StatusCode: _status_code,
    Digest: digest_of,
    Sha256: _sha256,
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
