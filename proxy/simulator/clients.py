"""Who may ask the simulator for tokens, and the names that it knows from the start.

A client is registered with one of the three token endpoints (its flavor); up to five certificates a client, as at the
bank. Which spelling of the thumbprint the endpoint takes as `kid` is set per client (`kid_forms`), so that a wrong
spelling is refused as the bank refuses it.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MOCK_CLIENT_ID = "mock-client"
MOCK_CLIENT_SECRET = "mock-secret"  # noqa: S105 - it opens nothing but the simulator
MOCK_SCOPE = "jpm:payments:sandbox"
JWT_CLIENT_ID = "5d2f8c1e-0b7a-4c7e-9a3d-3f6f5a1c9b10"
ADFS_CLIENT_ID = "CC-000000-A000000-000000-PROD"
MODERN_SCOPE = "onlinepayments:access"
# Names as the bank builds them; only the first audience is known to be one of its own.
AUDIENCES = {
    "payments": "jpm:uri:prod:payments",
    "validations": "jpm:uri:prod:validations",
    "commerce": "jpm:uri:prod:commerce",
    "reporting": "jpm:uri:prod:reporting",
}
RESOURCES = {
    "payments": "JPMC:URI:RS-000000-00000-Payments-PROD",
    "validations": "JPMC:URI:RS-000000-00000-Validations-PROD",
    "commerce": "JPMC:URI:RS-000000-00000-Commerce-PROD",
    "reporting": "JPMC:URI:RS-000000-00000-Reporting-PROD",
}
MAX_CERTIFICATES = 5


class Flavor(StrEnum):
    """The three token endpoints."""

    MOCK = "basic"
    MODERN = "jwt"
    ADFS = "adfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registration; *certificates* by the `kid` that selects them, *lifetime* of its tokens in seconds."""

    client_id: str
    flavor: Flavor
    secret: str = field(default="", repr=False)
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)
    audiences: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()
    lifetime: int = 3600
    jwt_tokens: bool = True
    assertion_audiences: frozenset[str] = frozenset()
    tls_thumbprint: str = ""
    bind_tokens: bool = False


class Clients:
    """All registrations."""

    def __init__(self) -> None:
        self._clients: dict[tuple[Flavor, str], Client] = {}

    def add(self, client: Client) -> None:
        """Register *client*, replacing one of the same flavor and id."""
        if len({thumbprint(c, "sha256-hex") for c in client.certificates.values()}) > MAX_CERTIFICATES:
            raise ValueError("a client has at most five certificates")
        self._clients[client.flavor, client.client_id] = client

    def get(self, flavor: Flavor, client_id: str) -> Client | None:
        """Return the registration, or None."""
        return self._clients.get((flavor, client_id))

    def add_certificate(
        self, flavor: Flavor, client_id: str, certificate_pem: bytes, *, kid_forms: Iterable[str]
    ) -> None:
        """Register one more certificate for a known client (rotation without downtime); KeyError if it is unknown."""
        client = self._clients[flavor, client_id]
        more = certificates_by_kid(certificate_pem, kid_forms)
        self.add(replace(client, certificates={**client.certificates, **more}))

    def knows_audience(self, flavor: Flavor, audience: str) -> bool:
        """Return whether any client of that endpoint may have *audience*."""
        return any(audience in client.audiences for (kind, _), client in self._clients.items() if kind is flavor)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def __repr__(self) -> str:
        return f"<Clients [{len(self._clients)} registered]>"


def certificates_by_kid(certificate_pem: bytes, kid_forms: Iterable[str]) -> dict[str, x509.Certificate]:
    """Return every certificate of the PEM under each of its key ids."""
    found = x509.load_pem_x509_certificates(certificate_pem)
    return {thumbprint(certificate, form): certificate for certificate in found for form in kid_forms}


def thumbprint(certificate: x509.Certificate, form: str) -> str:
    """Return the digest of the certificate's DER as sha1-hex (upper case), x5t, x5t#S256 or sha256-hex (upper case)."""
    der = certificate.public_bytes(Encoding.DER)
    match form:
        case "sha1-hex":
            return hashlib.sha1(der).hexdigest().upper()  # noqa: S324 - the bank names keys by it
        case "x5t":
            return _base64url(hashlib.sha1(der).digest())  # noqa: S324 - RFC 7515 4.1.7
        case "x5t#S256":
            return _base64url(hashlib.sha256(der).digest())
        case "sha256-hex":
            return hashlib.sha256(der).hexdigest().upper()
        case _:
            raise ValueError(f"unknown thumbprint form {form!r}")


def _base64url(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
