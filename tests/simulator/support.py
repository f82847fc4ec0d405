"""Keys, assertions and small requests for the simulator's tests, none of it the product's code."""

import base64
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from proxy.simulator.assertion_check import ASSERTION_TYPE
from proxy.simulator.clients import (
    ADFS_CLIENT_ID,
    AUDIENCES,
    JWT_CLIENT_ID,
    MOCK_CLIENT_ID,
    MOCK_CLIENT_SECRET,
    RESOURCES,
    thumbprint,
)
from proxy.simulator.server import Bank
from proxy.simulator.token_endpoints import ADFS_PATH, MOCK_PATH, MODERN_PATH
from tests.upstream.certificates import strict

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An RSA key with its self-signed certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as PKCS#8 PEM."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def kid(self) -> str:
        """The key id as the bank spells it."""
        return thumbprint(self.certificate, "sha1-hex")


def identity(*, days: int = 30, name: str = "127.0.0.1", key: rsa.RSAPrivateKey | None = None) -> Identity:
    """Return a new identity whose certificate ends in *days* (negative: has ended) and names 127.0.0.1."""
    key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return Identity(key=key, certificate=strict(builder, key, ca=True).sign(key, hashes.SHA256()))


def claims(client_id: str, audience: str, now: float, **other: Any) -> dict[str, Any]:
    """Return good claims, changed by *other*; None takes a claim away."""
    base = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + 60,
        "jti": base64.b16encode(json.dumps([now, id(other)]).encode()).decode(),
    }
    return {name: value for name, value in (base | other).items() if value is not None}


def sign(who: Identity, values: dict[str, Any], **header: Any) -> str:
    """Return a compact RS256 JWT with the kid in its header unless *header* says otherwise; None takes it away."""
    algorithm = header.pop("alg", "RS256")
    headers = {name: value for name, value in {"kid": who.kid, **header}.items() if value is not None}
    return jwt.encode(values, who.key, algorithm=algorithm, headers=headers)


def basic(client_id: str = MOCK_CLIENT_ID, secret: str = MOCK_CLIENT_SECRET) -> dict[str, str]:
    """Return the header of HTTP Basic authentication; the parts are taken as already encoded."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def ask(
    session: aiohttp.ClientSession, url: str, form: Any, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
    """Post a form to a token endpoint; return status, JSON and the response."""
    async with session.post(url, data=form, headers={**FORM, **(headers or {})}, allow_redirects=False) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else {}, response


def modern_form(bank: Bank, who: Identity, *, audience: str = AUDIENCES["payments"], **other: Any) -> dict[str, str]:
    """Return a good request to the modern endpoint, its claims changed by *other*."""
    values = claims(JWT_CLIENT_ID, bank.url + MODERN_PATH, bank.world.now(), **other)
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign(who, values),
        "audience": audience,
    }


def adfs_form(bank: Bank, who: Identity, *, resource: str = RESOURCES["payments"], **other: Any) -> dict[str, str]:
    """Return a good request to the ADFS endpoint, its claims changed by *other*."""
    values = claims(ADFS_CLIENT_ID, bank.url + ADFS_PATH, bank.world.now(), **{"nbf": None, **other})
    return {
        "grant_type": "client_credentials",
        "client_id": ADFS_CLIENT_ID,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign(who, values),
        "resource": resource,
    }


async def mock_token(session: aiohttp.ClientSession, bank: Bank) -> str:
    """Return a fresh Mock token."""
    status, value, _ = await ask(session, bank.url + MOCK_PATH, "grant_type=client_credentials", basic())
    assert status == 200, value
    token = value["access_token"]
    assert isinstance(token, str)
    return token


def bearing(token: str, **more: str) -> dict[str, str]:
    """Return the headers of a call with *token*."""
    return {"Authorization": f"Bearer {token}", **more}


def tls_client(folder: Path, *, with_certificate: bool = False) -> aiohttp.ClientSession:
    """Return a session that trusts server.pem in *folder* and shows client.pem if asked to."""
    context = ssl.create_default_context(cafile=str(folder / "server.pem"))
    if with_certificate:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=60))
