"""Client assertions (RFC 7523 2.2): signed by PyJWT in a thread; the key does not leave this object."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.credentials.remote_key import RemoteKey
from proxy.secret import Secret

# Enough for the drift of badly synchronised machines; the bank's own samples fail when a clock is 1 s fast.
MAX_BACKDATE_SECONDS = 10

ALGORITHM = "RS256"

# A signature takes well below a second; a device that hangs must not delay the stop.
_CLOSE_SECONDS = 3.0


class AssertionSigner:
    """Signs JWTs with one RSA *key* by RS256 (RFC 7518 3.3): a key in memory, or a RemoteKey in a device."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])

    async def sign(self, claims: Mapping[str, Any], *, key_id: str) -> Secret:
        """Return *claims* and their signature as a compact JWS (RFC 7515 7.1), in one line without white space.

        Runs in a thread: 4096 bits take 1.2 ms, which would block the event loop, and a device takes its time: it has a
        thread of its own, so that it can't take those of others. Raises KeyUnusable if the key is in a device.
        """
        return Secret(await self._run(self._encode, claims, key_id))

    async def close(self) -> None:
        """Release the device, if there is one, after a signature that is being made; `sign` opens it again.

        A signature that takes longer than a moment is ended: this returns after 6 s at the latest.
        """
        if not isinstance(self._key, RemoteKey):
            return
        closing = asyncio.ensure_future(self._run(self._key.close))
        done, _ = await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        if not done:
            self._key.abort()
            await asyncio.wait([closing], timeout=_CLOSE_SECONDS)

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        executor = self._key.executor if isinstance(self._key, RemoteKey) else None
        return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)

    def _encode(self, claims: Mapping[str, Any], key_id: str) -> str:
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._key, algorithm=ALGORITHM, headers={"kid": key_id})

    def __repr__(self) -> str:
        about = self._key if isinstance(self._key, RemoteKey) else f"RSA {self._key.key_size}"
        return f"<AssertionSigner {about}>"


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
