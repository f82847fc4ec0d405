"""The response of an endpoint of the simulator, independent of the connection."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and body.

    A body that is an iterator is streamed: with a Content-Length when *size*, in bytes, is known, else chunked.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    size: int | None = None


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Return an answer that carries *value* as JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, headers={"Content-Type": "application/json", **headers}, body=body)


def text_answer(text: str, *, status: int = 200, content_type: str = "text/plain; charset=utf-8") -> Answer:
    """Return an answer that carries *text*."""
    return Answer(status=status, headers={"Content-Type": content_type}, body=text.encode())
