"""Short-lived tokens of our own for callers that request tokens: proof of a caller, never a token of the bank."""

import base64
import hmac
import json
from collections.abc import Sequence

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.errors import CallerTokenInvalid
from proxy.secret import Secret
from proxy.text import base64url

# The default key file in data_directory.
KEY_FILE = "facade.key"
# RFC 7518 3.2: a key of HS256 is at least as long as its hash.
FEWEST_KEY_BYTES = 32
_ISSUER = "payproxy"
# The same for all instances: replicas with the same keys accept each other's tokens.
_AUDIENCE = "urn:payproxy:caller"
_TYPE = b'{"typ":"payproxy+jwt"'
# The first bytes of every token of ours, for every signing key; 21 bytes are 28 characters without padding bits.
_MARK = base64url(_TYPE)
_ID_BYTES = 12


class BearerTokens:
    """Creates and verifies HS256 JWTs (RFC 7519) with a lifetime of *lifetime* seconds.

    The first of *keys* signs, each of them verifies: to rotate, put the new key before the old one, and remove the old
    one once the last token that it signed has expired. Raises ValueError for a short key, or without any.
    """

    def __init__(self, keys: Sequence[bytes], *, lifetime: int, clock: Clock, entropy: Entropy) -> None:
        if not keys or any(len(key) < FEWEST_KEY_BYTES for key in keys):
            raise ValueError(f"a signing key of the facade must have at least {FEWEST_KEY_BYTES} bytes")
        # Looked up by the whole header: algorithm, type or key id chosen by a client are never parsed.
        self._keys = {_header(key): key for key in keys}
        self._signing = _header(keys[0])
        self.lifetime = lifetime
        self._clock = clock
        self._entropy = entropy

    def mint(self, caller: str) -> Secret:
        """Return a token that identifies its bearer as *caller* for `lifetime` seconds."""
        now = int(self._clock.now())
        claims = {
            "iss": _ISSUER,
            "sub": caller,
            "aud": _AUDIENCE,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": self._entropy.token_bytes(_ID_BYTES).hex(),
        }
        signed = self._signing + b"." + base64url(json.dumps(claims, separators=(",", ":")).encode())
        return Secret((signed + b"." + _signature(self._keys[self._signing], signed)).decode())

    def caller_of(self, token: bytes) -> str:
        """Return the caller of *token*, "" if it does not look like one of ours.

        Raises CallerTokenInvalid for one of ours that is expired, altered or signed with a key that is not in use.
        """
        if not token.startswith(_MARK):
            return ""
        signed, _, signature = token.rpartition(b".")
        header, _, claims = signed.partition(b".")
        key = self._keys.get(header)
        if key is None:
            raise CallerTokenInvalid(cause="signed with a key that is not in facade.signing_key_files")
        if not hmac.compare_digest(_signature(key, signed), signature):
            raise CallerTokenInvalid(cause="the signature is wrong")
        said = json.loads(base64.urlsafe_b64decode(claims + b"=="))  # signed with our key: no strict parsing needed
        if (said["iss"], said["aud"]) != (_ISSUER, _AUDIENCE):
            raise CallerTokenInvalid(cause="it was signed for another purpose")
        late = self._clock.now() - said["exp"]
        if late >= 0:
            raise CallerTokenInvalid(cause=f"it has expired {late:.0f} s ago")
        return str(said["sub"])

    def __repr__(self) -> str:
        return f"<BearerTokens of {self.lifetime} s, {len(self._keys)} keys>"


def _header(key: bytes) -> bytes:
    """Return the first segment of the tokens that *key* signs, with its fingerprint as key id (RFC 7515 4.1.4)."""
    fingerprint = hmac.digest(key, b"payproxy facade key id", "sha256").hex()[:16]
    return base64url(_TYPE + f',"alg":"HS256","kid":"{fingerprint}"}}'.encode())


def _signature(key: bytes, signed: bytes) -> bytes:
    return base64url(hmac.digest(key, signed, "sha256"))
