"""Strict parsing of compact JWS (RFC 7515 3.1): one encoding per byte string, unambiguous JSON objects."""

import base64
import json
import re
from typing import Any

from proxy.text import base64url

_SEGMENT = re.compile(rb"[A-Za-z0-9_-]*")


def decoded(segment: bytes) -> bytes:
    """Decode *segment* from base64url; raises ValueError for padding, white space or non-zero unused bits.

    Otherwise, one signature would have several encodings.
    """
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise ValueError("it is not base64url without padding")
    data = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    if base64url(data) != segment:
        raise ValueError("it is not base64url as an encoder writes it")
    return data


def json_object(data: bytes) -> dict[str, Any]:
    """Parse *data* as one JSON object in UTF-8; raises ValueError, also for a repeated name."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - input of a client, not an argument's type
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
