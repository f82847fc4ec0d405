"""The client assertion (RFC 7523 2.2): what is signed, without time, chance or key of its own."""

import json
from proxy.text import base64url

# Enough for the drift of machines that use NTP badly; the bank's own samples fail when a clock is 1 s fast.
MAX_BACKDATE_SECONDS = 10

ALGORITHM = "RS256"


def client_assertion_input(*, client_id: str, audience: str, key_id: str, lifetime: int, now: float, jti: str) -> bytes:
    """Return header and payload of an assertion, encoded and joined (RFC 7515 5.1): what the signer signs.

    *now* is epoch seconds of the token endpoint's clock as well as it is known, *lifetime* the seconds from iat to
    exp. iat and nbf lie up to 10 s back, but never more than a sixth of the lifetime: a short one must not be spent
    before it is sent, and a long one must not exceed five minutes, which servers refuse.
    """
    issued = int(now) - min(MAX_BACKDATE_SECONDS, lifetime // 6)
    header = {"alg": ALGORITHM, "kid": key_id, "typ": "JWT"}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": jti,
        "iat": issued,
        "nbf": issued,
        "exp": issued + lifetime,
    }
    return b".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
