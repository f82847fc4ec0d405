"""Everything that the simulator knows: clients, tokens, faults, what it received and what it executed.

A test in the same process reads and changes it directly; others use `/_sim/...` (control.py).
"""

from collections import Counter
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

from cryptography import x509

from proxy.clock import Clock
from proxy.entropy import Entropy, uuid4
from proxy.simulator.access_tokens import AccessTokens, Issued
from proxy.simulator.assertion_check import SeenIds
from proxy.simulator.clients import (
    AUDIENCES,
    MOCK_CLIENT_ID,
    MOCK_CLIENT_SECRET,
    MOCK_SCOPE,
    MODERN_SCOPE,
    RESOURCES,
    Client,
    Clients,
    Flavor,
    certificates_by_kid,
    thumbprint,
)
from proxy.simulator.faults import Faults
from proxy.simulator.received import Received, RequestLog

# Payments that are remembered for GET and for their Idempotency-Key; the oldest are forgotten.
_MANY_PAYMENTS = 100_000


class World:
    """The bank's side of a test.

    *clock_offset* puts the bank's wall clock off by that many seconds; *leeway*, seconds, is how far it forgives the
    times of an assertion. *mints* counts tokens by (client id, audience or resource; "" at Mock), *refusals* token
    requests that were refused by (client id, error). *accepted* counts executed payments and uploads by Idempotency-Key
    ("" for those without). *access* says which audiences open the paths under a prefix, None meaning any live token;
    "" stands for Mock tokens. *merchants*, if not empty, are the merchant ids that Checkout knows.
    *signatures* has the certificates that sign the bodies of POST and PUT below a path.
    *books_delay* is how many seconds after its execution a payment is found by its Request-Id.
    *origin* is where the simulator listens, *origins* all spellings of that, *files_origin* its second host.
    """

    def __init__(self, *, clock: Clock, entropy: Entropy, journal: Path | None = None, keep: int = 10_000) -> None:
        self.clock = clock
        self.entropy = entropy
        self.clock_offset = 0.0
        self.leeway = 0.0
        self.clients = Clients()
        self.tokens = AccessTokens(entropy=entropy, monotonic=clock.monotonic, now=self.now)
        self.faults = Faults()
        self.log = RequestLog(keep=keep, journal=journal)
        self.seen_ids = SeenIds()
        self.mints: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.accepted: Counter[str] = Counter()
        self.payments: dict[str, dict[str, Any]] = {}
        self.merchants: set[str] = set()
        self.books_delay = 0.0
        self.signatures: dict[str, tuple[x509.Certificate, ...]] = {}
        self.origin = ""
        self.origins: frozenset[str] = frozenset()
        self.files_origin = ""
        self.access: dict[str, frozenset[str] | None] = {
            "/payment": _opened_by("payments"),
            "/documents": _opened_by("payments"),
            "/tsapi": _opened_by("validations"),
            "/v1/checkout": _opened_by("commerce"),
            "/api/v2": _opened_by("commerce"),
            "/api/v1": _opened_by("reporting"),
            "/echo": None,
        }
        self._keys: dict[tuple[str, str], str] = {}
        self._books: dict[tuple[str, str], tuple[str, float]] = {}
        self._date = (0, "")
        self.register_secret_client(MOCK_CLIENT_ID, MOCK_CLIENT_SECRET)

    def now(self) -> float:
        """Return the bank's wall clock, epoch seconds."""
        return self.clock.now() + self.clock_offset

    def http_date(self) -> str:
        """Return the bank's wall clock as the Date header has it (RFC 9110 5.6.7)."""
        second = int(self.now())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def register_secret_client(
        self,
        client_id: str,
        secret: str,
        *,
        scopes: Iterable[str] = (MOCK_SCOPE,),
        jwt_tokens: bool = False,
        lifetime: int = 3599,
    ) -> None:
        """Register a client of the Mock token endpoint, with opaque tokens or JWTs; the first scope is the default."""
        self.clients.add(
            Client(
                client_id=client_id,
                flavor=Flavor.MOCK,
                secret=secret,
                scopes=tuple(scopes),
                jwt_tokens=jwt_tokens,
                lifetime=lifetime,
            )
        )

    def register_jwt_client(
        self,
        client_id: str,
        certificate_pem: bytes,
        *,
        audiences: Iterable[str] = tuple(AUDIENCES.values()),
        scopes: Iterable[str] = (MODERN_SCOPE,),
        kid_forms: Iterable[str] = ("sha1-hex",),
        assertion_audiences: Iterable[str] = (),
        tls_certificate_pem: bytes | None = None,
        bind_tokens: bool = False,
        lifetime: int = 28800,
    ) -> None:
        """Register a client of the modern token endpoint.

        *certificate_pem* may be empty for a client that has only *tls_certificate_pem* (tls_client_auth, RFC 8705 2);
        *bind_tokens* binds its tokens to that certificate. *assertion_audiences* are accepted beside the token URL.
        """
        self.clients.add(
            Client(
                client_id=client_id,
                flavor=Flavor.MODERN,
                certificates=certificates_by_kid(certificate_pem, kid_forms) if certificate_pem else {},
                audiences=frozenset(audiences),
                scopes=tuple(scopes),
                assertion_audiences=frozenset(assertion_audiences),
                tls_thumbprint=_tls_thumbprint(tls_certificate_pem),
                bind_tokens=bind_tokens,
                lifetime=lifetime,
            )
        )

    def register_adfs_client(
        self,
        client_id: str,
        certificate_pem: bytes,
        *,
        resources: Iterable[str] = tuple(RESOURCES.values()),
        kid_forms: Iterable[str] = ("sha1-hex",),
        assertion_audiences: Iterable[str] = (),
        tls_certificate_pem: bytes | None = None,
        lifetime: int = 28800,
    ) -> None:
        """Register a client of the ADFS token endpoint; with *tls_certificate_pem* it must also show that in TLS."""
        self.clients.add(
            Client(
                client_id=client_id,
                flavor=Flavor.ADFS,
                certificates=certificates_by_kid(certificate_pem, kid_forms),
                audiences=frozenset(resources),
                assertion_audiences=frozenset(assertion_audiences),
                tls_thumbprint=_tls_thumbprint(tls_certificate_pem),
                lifetime=lifetime,
            )
        )

    def refuses(self, token: str, *, path: str, peer: str) -> str:
        """Return why *token* does not open *path* for the TLS certificate *peer* (x5t#S256 or ""), "" if it does."""
        if not token:
            return "no bearer token"
        issued = self.tokens.find(token)
        if issued is None:
            return "token unknown"
        state = issued.state(self.clock.monotonic())
        if state != "live":
            return f"token {state}"
        if issued.bound_to not in ("", peer):
            return "token bound to another certificate"
        return "" if self._opens(issued, path) else "token for another audience"

    def execute(self, client_id: str, key: str, made: dict[str, Any]) -> tuple[str, bool]:
        """Execute what *made* describes: its new id and False; for a *key* seen before nothing: the old id and True."""
        if key and (known := self._keys.get((client_id, key))):
            return known, True
        self.accepted[key] += 1
        identity = uuid4(self.entropy)
        if key:
            self._keys[client_id, key] = identity
        self.payments[identity] = made
        if len(self.payments) > _MANY_PAYMENTS:
            del self.payments[next(iter(self.payments))]
        return identity, False

    def enter(self, client_id: str, request_id: str, identity: str) -> None:
        """Enter the payment *identity* into the books, under the first request that had that *request_id*."""
        if request_id:
            self._books.setdefault((client_id, request_id), (identity, self.clock.monotonic()))
            if len(self._books) > _MANY_PAYMENTS:
                del self._books[next(iter(self._books))]

    def booked(self, client_id: str, request_id: str) -> str:
        """Return the id of the client's payment with that *request_id*, "" if the books do not show one (yet)."""
        identity, when = self._books.get((client_id, request_id), ("", 0.0))
        return identity if self.clock.monotonic() - when >= self.books_delay else ""

    def seen(self, path: str = "", method: str = "") -> list[Received]:
        """Return the kept requests under *path* (a prefix) with *method* ("" is any), oldest first."""
        return [r for r in self.log.requests if r.path.startswith(path) and method in ("", r.method)]

    def mint_count(self, client_id: str = "", audience: str | None = None) -> int:
        """Return how many tokens were minted, for one client ("" is any) and one audience (None is any)."""
        return sum(
            count
            for (client, wanted), count in self.mints.items()
            if client_id in ("", client) and audience in (None, wanted)
        )

    def reset(self) -> None:
        """Forget tokens, faults, requests, counts and payments, set the clock right; clients and access stay."""
        self.clock_offset = self.leeway = self.books_delay = 0.0
        self.tokens.clear()
        self.faults.clear()
        self.log.clear()
        self.seen_ids.clear()
        self.mints.clear()
        self.refusals.clear()
        self.accepted.clear()
        self.payments.clear()
        self._keys.clear()
        self._books.clear()

    def require_signature(self, path: str, certificate_pem: bytes) -> None:
        """Demand signed bodies of POST and PUT below *path*, by the key of one of the certificates in the PEM.

        Without a certificate, none are demanded any more.
        """
        if not certificate_pem:
            self.signatures.pop(path, None)
        else:
            self.signatures[path] = tuple(x509.load_pem_x509_certificates(certificate_pem))

    def __repr__(self) -> str:
        return f"<World [{self.log.total} received, {self.mints.total()} minted, {self.accepted.total()} executed]>"

    def _opens(self, issued: Issued, path: str) -> bool:
        prefixes = [p for p in self.access if path == p or path.startswith(p + "/")]
        opened_by = self.access[max(prefixes, key=len)] if prefixes else frozenset()
        return opened_by is None or issued.audience in opened_by


def _opened_by(product: str) -> frozenset[str]:
    return frozenset({"", AUDIENCES[product], RESOURCES[product]})


def _tls_thumbprint(certificate_pem: bytes | None) -> str:
    if certificate_pem is None:
        return ""
    return thumbprint(x509.load_pem_x509_certificate(certificate_pem), "x5t#S256")
