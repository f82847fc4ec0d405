"""Verifies signed bodies (RFC 7515 7.1, RS256) with code of the simulator's own, and gives endpoints the payload.

The whole body of POST and PUT is one compact JWS whose header is exactly {"alg":"RS256"}: no white space, no padding,
nothing detached. What is no such JWS gets 400, one by another key 403.
"""

import base64
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.simulator.answer import Answer
from proxy.simulator.call import Call
from proxy.simulator.shapes import error
from proxy.simulator.world import World

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_HEADER = b'{"alg":"RS256"}'


def refused_signature(call: Call, world: World) -> Answer | None:
    """Put the verified payload in the place of the call's body, or return the answer that refuses it.

    Returns None, and changes nothing, where no signature is demanded.
    """
    paths = [path for path in world.signatures if call.path == path or call.path.startswith(path + "/")]
    if not paths or call.method not in ("POST", "PUT"):
        return None
    payload = _payload(call.body)
    if payload is None or len(call.body) != call.size:
        call.received.note = "the body is no compact JWS with the header of RS256 alone"
        return error(call, world, 400)
    if not any(_signed_by(each.public_key(), call.body) for each in world.signatures[max(paths, key=len)]):
        call.received.note = "the body is signed by no known key"
        return error(call, world, 403)
    call.body, call.size = payload, len(payload)
    call.sha256 = call.received.payload_sha256 = hashlib.sha256(payload).hexdigest()
    return None


def _payload(body: bytes) -> bytes | None:
    match = _COMPACT.fullmatch(body)
    if match is None or _decoded(match[1]) != _HEADER:
        return None
    return _decoded(match[2])


def _decoded(segment: bytes) -> bytes | None:
    """Return what *segment* encodes, None if it is not the one spelling of that."""
    if len(segment) % 4 == 1:
        return None
    found = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    return found if base64.urlsafe_b64encode(found).rstrip(b"=") == segment else None


def _signed_by(key: object, body: bytes) -> bool:
    signing_input, _, signature = body.rpartition(b".")
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(_decoded(signature) or b"", signing_input, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
