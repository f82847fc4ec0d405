"""Answers to parse, good ones and changed ones."""

import base64
import json
from typing import Any

from proxy.tokens.response import Minted, parse_token_response

NOW = 1_800_000_000.0
JSON = {"content-type": "application/json"}


def parse(
    body: bytes | str | dict[str, Any],
    *,
    status: int = 200,
    headers: dict[str, str] = JSON,
    hide: tuple[str, ...] = (),
) -> Minted:
    """Parse *body* as an answer to credential `login`."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    return parse_token_response(status, headers, data, credential="login", default_lifetime=300, now=NOW, hide=hide)


def good(**changes: Any) -> dict[str, Any]:
    """Return a good answer with *changes*; None takes a member away."""
    members = {"access_token": "abc.def-123", "token_type": "Bearer", "expires_in": 3600} | changes
    return {name: value for name, value in members.items() if value is not None}


def jwt(**claims: Any) -> str:
    """Return an unsigned JWT with *claims*."""
    parts = ({"alg": "ES512"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join((*encoded, "c2ln"))
