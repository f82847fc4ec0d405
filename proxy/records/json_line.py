"""Render a record as a line: compact JSON in UTF-8 whose first bytes give kind and id without parsing."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

Encoder = Callable[[Any], bytes]

# For UTF-8, where 0xC2 is always a first byte: this never matches inside a longer character.
_CONTROLS: Final = re.compile(rb"\xc2[\x80-\x9f]|\x7f")
INTENT: Final = b'{"kind":"intent","id":"'
EXCHANGE: Final = b'{"kind":"exchange","id":"'
_ID_LENGTH: Final = 36
INTENT_ID: Final = slice(len(INTENT), len(INTENT) + _ID_LENGTH)
EXCHANGE_ID: Final = slice(len(EXCHANGE), len(EXCHANGE) + _ID_LENGTH)


def plain_encoder(value: Any) -> bytes:
    """Return *value* as JSON by the standard library; the same bytes as orjson for the values in records."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _encoder() -> Encoder:
    try:
        import orjson  # noqa: PLC0415 - the [speed] extra
    except ImportError:
        return plain_encoder
    return orjson.dumps


_encode = _encoder()


def terminal_safe(text: bytes) -> bytes:
    """Return JSON *text* with DEL and C1 control characters (U+0080 to U+009F) escaped, as JSON escapes C0.

    A terminal takes U+009B as the start of a control sequence. These characters occur only in strings.
    """
    if text.isascii() and b"\x7f" not in text:
        return text
    return _CONTROLS.sub(_escaped, text)


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\u00%02x" % found[0][-1]


def quoted(value: Any) -> str:
    """Return *value* as JSON for insertion into a line."""
    return line(value)[:-1].decode()


def line(record: Any) -> bytes:
    """Return *record* as one line with line feed; its first members must be `kind` and `id`."""
    try:
        return terminal_safe(_encode(record)) + b"\n"
    except (TypeError, UnicodeEncodeError):
        # Bytes of a target that are not UTF-8 become lone surrogates, which JSON in UTF-8 can't hold.
        return terminal_safe(_encode(_readable(record))) + b"\n"


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_readable(name): _readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return value
