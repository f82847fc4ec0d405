"""How a record becomes a line: compact JSON in UTF-8 whose first bytes tell kind and id without parsing."""

import json
from collections.abc import Callable
from typing import Any, Final

Encoder = Callable[[Any], bytes]

INTENT: Final = b'{"kind":"intent","id":"'
EXCHANGE: Final = b'{"kind":"exchange","id":"'
_ID_LENGTH: Final = 36
INTENT_ID: Final = slice(len(INTENT), len(INTENT) + _ID_LENGTH)
EXCHANGE_ID: Final = slice(len(EXCHANGE), len(EXCHANGE) + _ID_LENGTH)


def plain_encoder(value: Any) -> bytes:
    """Return *value* as JSON by the standard library: the same bytes as orjson for what records hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _encoder() -> Encoder:
    try:
        import orjson  # noqa: PLC0415 - the [speed] extra
    except ImportError:
        return plain_encoder
    return orjson.dumps


_encode = _encoder()


def quoted(value: Any) -> str:
    """Return *value* as JSON, to be set into a line."""
    return line(value)[:-1].decode()


def line(record: Any) -> bytes:
    """Return *record* as one line with its line feed; `kind` and `id` are to be its first members."""
    try:
        return _encode(record) + b"\n"
    except (TypeError, UnicodeEncodeError):
        # Bytes of a target that are no UTF-8 travel as lone surrogates, which JSON in UTF-8 can't carry.
        return _encode(_readable(record)) + b"\n"


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_readable(name): _readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return value
