"""The access tokens that the simulator has handed out.

A token expires by the monotonic clock; its claims carry the simulator's wall clock, which may be wrong on purpose.
Modern tokens are ES512 with an `aud` that differs from the audience asked for, as the bank's do
(`jpm:uri:prod:payments` gives `jpmc:uri:prod:payments:commerce`); ADFS tokens are RS256 with `aud` = resource; Mock
tokens are opaque or, if the client is set so, RS256.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.entropy import Entropy, uuid4
from proxy.simulator.clients import Client, Flavor

# Enough for the longest test with short-lived tokens; the oldest are forgotten.
MAX_TOKENS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One token that was handed out; *expires* is monotonic, *bound_to* the thumbprint of a TLS certificate or ""."""

    fingerprint: str
    client_id: str
    flavor: Flavor
    audience: str
    scope: str
    expires: float
    bound_to: str = ""
    revoked: bool = False

    def state(self, monotonic: float) -> str:
        """Return live, expired or revoked."""
        if self.revoked:
            return "revoked"
        return "live" if monotonic < self.expires else "expired"


class AccessTokens:
    """Makes tokens and remembers them."""

    def __init__(self, *, entropy: Entropy, monotonic: Callable[[], float], now: Callable[[], float]) -> None:
        self._entropy = entropy
        self._monotonic = monotonic
        self._now = now
        self._issued: dict[str, Issued] = {}
        self._kid = uuid4(entropy)

    @cached_property
    def _modern_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP521R1())

    @cached_property
    def _legacy_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def issue(
        self, client: Client, *, issuer: str, audience: str, scope: str, lifetime: float, bound_to: str = ""
    ) -> str:
        """Return a new token for *client* that lives *lifetime* seconds."""
        token = self._build(client, issuer=issuer, audience=audience, scope=scope, lifetime=lifetime, bound_to=bound_to)
        if len(self._issued) >= MAX_TOKENS:
            del self._issued[next(iter(self._issued))]
        self._issued[token] = Issued(
            fingerprint=fingerprint(token),
            client_id=client.client_id,
            flavor=client.flavor,
            audience=audience,
            scope=scope,
            expires=self._monotonic() + lifetime,
            bound_to=bound_to,
        )
        return token

    def find(self, token: str) -> Issued | None:
        """Return what is known about *token*, or None."""
        return self._issued.get(token)

    def latest(self, client: Client, *, audience: str) -> str:
        """Return the newest token of *client* for *audience*, dead or alive; "" if there is none."""
        for token, issued in reversed(self._issued.items()):
            if (issued.client_id, issued.audience) == (client.client_id, audience):
                return token
        return ""

    def revoke(self, *, fingerprint: str = "", client_id: str = "") -> int:
        """Kill the tokens that match all that is given, every token if nothing is, and return how many were killed."""
        killed = 0
        for token, issued in self._issued.items():
            if issued.revoked or (fingerprint and fingerprint != issued.fingerprint):
                continue
            if client_id and client_id != issued.client_id:
                continue
            self._issued[token] = replace(issued, revoked=True)
            killed += 1
        return killed

    def clear(self) -> None:
        """Forget all tokens: they are then as unknown as any other string."""
        self._issued.clear()

    def __iter__(self) -> Iterator[Issued]:
        return iter(self._issued.values())

    def __repr__(self) -> str:
        return f"<AccessTokens [{len(self._issued)} issued]>"

    def _build(self, client: Client, *, issuer: str, audience: str, scope: str, lifetime: float, bound_to: str) -> str:
        if not client.jwt_tokens:
            return base64.urlsafe_b64encode(self._entropy.token_bytes(30)).decode()
        now = self._now()
        claims: dict[str, Any] = {"iss": issuer, "iat": int(now), "nbf": int(now), "exp": int(now + lifetime)}
        if bound_to:
            claims["cnf"] = {"x5t#S256": bound_to}  # RFC 8705 3.1
        if client.flavor is Flavor.MODERN:
            claims |= {"sub": client.client_id, "aud": granted_audience(audience), "scope": scope}
            claims["jti"] = uuid4(self._entropy)
            return jwt.encode(claims, self._modern_key, algorithm="ES512", headers={"kid": self._kid})
        if client.flavor is Flavor.ADFS:
            claims |= {"aud": audience, "appid": client.client_id, "apptype": "Confidential", "ver": "1.0"}
            claims |= {"authmethod": ["tlsclient", "x509"], "Role": [f"{audience}-Role"]}
        else:
            claims |= {"sub": client.client_id, "scope": scope}
        # Two mints in one second must differ; ADFS has no jti, so the simulator adds one that nobody reads.
        claims["jti"] = uuid4(self._entropy)
        return jwt.encode(claims, self._legacy_key, algorithm="RS256", headers={"kid": self._kid, "x5t": self._kid})


def fingerprint(token: str) -> str:
    """Return the first 16 hexadecimal digits of the token's SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def granted_audience(audience: str) -> str:
    """Return the `aud` of the token that the modern endpoint gives for *audience*."""
    return "jpmc:" + audience.removeprefix("jpm:") + ":commerce"
