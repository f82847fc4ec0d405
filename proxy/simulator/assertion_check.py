"""Checks client assertions (RFC 7523 3) with code of the simulator's own.

The product builds assertions; were it checked with the product's code or with a lenient library, a wrong claim could be
wrong twice. So this reads the three segments by hand and is strict: no white space, no padding, no claim twice, RS256
only. The reason of a refusal is for the test that looks into the world; the client gets the endpoint's terse error.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.simulator.clients import Client

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# Dead entries are dropped when there are this many.
_MANY_JTIS = 10_000


class AssertionRefused(Exception):
    """The assertion does not prove who the client is; the text says why and quotes no part of it but names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one token endpoint demands; times in seconds, *longest* is how far ahead `exp` may lie."""

    audiences: frozenset[str]
    longest: float
    single_use: bool
    leeway: float = 0.0


class SeenIds:
    """The `jti` values that were used, per client, until their assertion would have expired anyway."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def used_before(self, client_id: str, jti: str, *, until: float, now: float) -> bool:
        """Return whether *jti* was used, and remember it until *until*, epoch seconds."""
        if len(self._until) > _MANY_JTIS:
            self._until = {key: end for key, end in self._until.items() if end > now}
        if self._until.get((client_id, jti), now) > now:
            return True
        self._until[client_id, jti] = until
        return False

    def clear(self) -> None:
        """Forget all."""
        self._until.clear()


def check_assertion(
    assertion: str, *, find: Callable[[str], Client | None], rules: Rules, now: float, seen: SeenIds
) -> Client:
    """Return the client that *assertion* proves; *now* is epoch seconds. Raises AssertionRefused (RFC 7523 3)."""
    match = _COMPACT.fullmatch(assertion)
    if match is None:
        raise AssertionRefused("the assertion is not three base64url segments")
    header = _segment(match[1], "header")
    claims = _segment(match[2], "claims")
    client = _client(claims, find)
    certificate = _certificate(header, client)
    _signature(assertion, match[3], certificate)
    _validity(certificate, now)
    accepted = rules.audiences | client.assertion_audiences
    _audience(claims, accepted)
    expires = _times(claims, now=now, rules=rules)
    _jti(claims, client, expires=expires, now=now, rules=rules, seen=seen)
    return client


def claimed_client(assertion: str) -> str:
    """Return the `sub` of *assertion* without checking anything, "" if there is none: only to aim faults."""
    match = _COMPACT.fullmatch(assertion)
    if match is None:
        return ""
    try:
        subject = _segment(match[2], "claims").get("sub", "")
    except AssertionRefused:
        return ""
    return subject if isinstance(subject, str) else ""


def _segment(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(text), object_pairs_hook=_unique_names)
    except (ValueError, RecursionError):
        raise AssertionRefused(f"the {what} are not a JSON object") from None
    if not isinstance(value, dict):
        raise AssertionRefused(f"the {what} are not a JSON object")
    return value


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise AssertionRefused("a segment is not base64url") from None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value


def _client(claims: dict[str, Any], find: Callable[[str], Client | None]) -> Client:
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(subject, str) or issuer != subject:
        raise AssertionRefused("iss and sub are not the same client id")
    client = find(subject)
    if client is None:
        raise AssertionRefused("iss and sub name no registered client")
    return client


def _certificate(header: dict[str, Any], client: Client) -> x509.Certificate:
    if header.get("alg") != "RS256":
        raise AssertionRefused("alg is not RS256")
    if header.get("typ", "JWT") != "JWT" or "crit" in header:
        raise AssertionRefused("typ or crit is not acceptable")
    kid = header.get("kid")
    certificate = client.certificates.get(kid) if isinstance(kid, str) else None
    if certificate is None:
        raise AssertionRefused("kid names no certificate of this client")
    return certificate


def _signature(assertion: str, signature: str, certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise AssertionRefused("the registered certificate holds no RSA key")
    try:
        key.verify(_decode(signature), assertion.rpartition(".")[0].encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise AssertionRefused("the signature is not by the key of the certificate that kid names") from None


def _validity(certificate: x509.Certificate, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if moment > certificate.not_valid_after_utc:
        raise AssertionRefused("the certificate has expired")
    if moment < certificate.not_valid_before_utc:
        raise AssertionRefused("the certificate is not valid yet")


def _audience(claims: dict[str, Any], accepted: frozenset[str]) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in accepted for name in named):
        raise AssertionRefused("aud is not this token endpoint")


def _times(claims: dict[str, Any], *, now: float, rules: Rules) -> float:
    expires = _numeric_date(claims, "exp")
    if expires is None:
        raise AssertionRefused("exp is missing")
    if expires <= now - rules.leeway:
        raise AssertionRefused("exp lies in the past")
    if expires > now + rules.longest + rules.leeway:
        raise AssertionRefused("exp lies too far ahead")
    for name in ("nbf", "iat"):
        moment = _numeric_date(claims, name)
        if moment is not None and moment > now + rules.leeway:
            raise AssertionRefused(f"{name} lies in the future")
    return expires


def _numeric_date(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AssertionRefused(f"{name} is not a number")
    return float(value)


def _jti(claims: dict[str, Any], client: Client, *, expires: float, now: float, rules: Rules, seen: SeenIds) -> None:
    if not rules.single_use:
        return
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise AssertionRefused("jti is missing")
    if seen.used_before(client.client_id, jti, until=expires + rules.leeway, now=now):
        raise AssertionRefused("jti was seen before")
