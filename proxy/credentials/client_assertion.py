"""Client assertions (RFC 7523 2.2): signed by PyJWT in a thread; the key does not leave this object."""

import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.credentials.key_user import KeyUser
from proxy.secret import Secret

# Enough for the drift of badly synchronised machines; the bank's own samples fail when a clock is 1 s fast.
MAX_BACKDATE_SECONDS = 10

ALGORITHM = "RS256"


class AssertionSigner(KeyUser):
    """Signs JWTs with one RSA *key* by RS256 (RFC 7518 3.3): a key in memory, or a RemoteKey in a device."""

    def __init__(self, key: RSAPrivateKey) -> None:
        super().__init__(key)
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])

    async def sign(self, claims: Mapping[str, Any], *, key_id: str) -> Secret:
        """Return *claims* and their signature as a compact JWS (RFC 7515 7.1), in one line without white space.

        Runs in a thread: 4096 bits take 1.2 ms, which would block the event loop, and a device takes its time: it has a
        thread of its own, so that it can't take those of others. Raises KeyUnusable if the key is in a device.
        """
        return Secret(await self._run(self._encode, claims, key_id))

    def _encode(self, claims: Mapping[str, Any], key_id: str) -> str:
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._key, algorithm=ALGORITHM, headers={"kid": key_id})


def client_assertion_claims(*, client_id: str, audience: str, lifetime: int, now: float, jti: str) -> dict[str, Any]:
    """Return the claims of an assertion (RFC 7523 3).

    *now* is epoch seconds of the token endpoint's clock, as far as known; *lifetime* is the seconds from iat to exp.
    iat and nbf are up to 10 s in the past, but at most a sixth of the lifetime: a short one must not be used up before
    it is sent, and a long one must not exceed five minutes, which servers refuse.
    """
    issued = int(now) - min(MAX_BACKDATE_SECONDS, lifetime // 6)
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": jti,
        "iat": issued,
        "nbf": issued,
        "exp": issued + lifetime,
    }
