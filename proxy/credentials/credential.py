"""A credential in the keeper, including its secrets."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy import private_file
from proxy.credentials.client_assertion import AssertionSigner
from proxy.credentials.keys import (
    KeyUnusable,
    belong_together,
    load_certificate,
    load_private_key,
    thumbprint,
)
from proxy.secret import Secret

CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 - name of a method (RFC 7591 2)
CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 - name of a method (RFC 7591 2)
PRIVATE_KEY_JWT = "private_key_jwt"
TLS_CLIENT_AUTH = "tls_client_auth"

AUTH_METHODS = (CLIENT_SECRET_BASIC, CLIENT_SECRET_POST, PRIVATE_KEY_JWT, TLS_CLIENT_AUTH)

# Set by grant.py from credential and route; a second value would make the request ambiguous (RFC 6749 3.2).
RESERVED_PARAMETERS = frozenset(
    {"grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type"}
)


class CredentialUnusable(ValueError):
    """A credential can't be used; the message says which, why and how to fix it, never a secret."""


class SealedSecret(Protocol):
    """A secret string in pydantic's form."""

    def get_secret_value(self) -> str:
        """Return the plain secret."""


class CredentialSection(Protocol):
    """The part of `[credentials.NAME]` used here, with the flavor's preset applied; see docs/settings.md."""

    # ruff: noqa: D102 - the properties are the contract's settings, named to the letter
    @property
    def client_id(self) -> str: ...
    @property
    def client_secret(self) -> str | Secret | SealedSecret | None: ...
    @property
    def client_secret_file(self) -> str | Path | None: ...
    @property
    def private_key_file(self) -> str | Path | None: ...
    @property
    def private_key_passphrase_file(self) -> str | Path | None: ...
    @property
    def certificate_file(self) -> str | Path | None: ...
    @property
    def key_id(self) -> str: ...
    @property
    def key_id_format(self) -> str: ...
    @property
    def token_url(self) -> str: ...
    @property
    def auth_method(self) -> str: ...
    @property
    def assertion_audience(self) -> str: ...
    @property
    def assertion_lifetime(self) -> int: ...
    @property
    def audience_parameter(self) -> str: ...
    @property
    def send_client_id(self) -> bool: ...
    @property
    def extra_parameters(self) -> Mapping[str, str]: ...
    @property
    def default_lifetime(self) -> float: ...
    @property
    def ca_file(self) -> str | Path | None: ...
    @property
    def client_certificate_file(self) -> str | Path | None: ...
    @property
    def client_key_file(self) -> str | Path | None: ...
    @property
    def egress_proxy(self) -> str: ...
    @property
    def timeout(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One credential of `[credentials]`, ready to mint with; times in seconds, file names absolute or "".

    *fingerprint* (16 hex digits) changes with key, secret or client certificate, and reveals none of them.
    """

    name: str
    token_url: str
    client_id: str
    auth_method: str
    client_secret: Secret | None = None
    signer: AssertionSigner | None = None
    key_id: str = ""
    assertion_audience: str = ""
    assertion_lifetime: int = 60
    audience_parameter: str = ""
    send_client_id: bool = False
    extra_parameters: tuple[tuple[str, str], ...] = ()
    default_lifetime: float = 300
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    egress_proxy: str = ""
    timeout: float = 10
    fingerprint: str

    @classmethod
    def load(cls, section: CredentialSection, *, name: str, base: Path) -> Self:
        """Read the files of *section*, relative ones from *base*, and return the credential *name*.

        Raises CredentialUnusable.
        """
        try:
            return cls._load(section, name, base)
        except (KeyUnusable, CredentialUnusable) as error:
            raise CredentialUnusable(f"credential {name}: {error}") from None

    @classmethod
    def _load(cls, section: CredentialSection, name: str, base: Path) -> Self:
        reserved = RESERVED_PARAMETERS | {section.audience_parameter}
        if clash := sorted(reserved.intersection(section.extra_parameters)):
            raise CredentialUnusable(f"extra_parameters may not set {', '.join(clash)}")
        certificate, key = _transport_files(section, base)
        secret, signer, key_id = None, None, ""
        if section.auth_method in {CLIENT_SECRET_BASIC, CLIENT_SECRET_POST}:
            secret = _client_secret(section, base)
            fingerprint = _of_secret(section.client_id, secret)
        elif section.auth_method == PRIVATE_KEY_JWT:
            signer, key_id, fingerprint = _signing(section, base)
        elif section.auth_method == TLS_CLIENT_AUTH:
            if not certificate:
                raise CredentialUnusable("tls_client_auth needs client_certificate_file and client_key_file")
            der = load_certificate(Path(certificate)).public_bytes(Encoding.DER)
            fingerprint = hashlib.sha256(der).hexdigest()[:16]
        else:
            raise CredentialUnusable(f"auth_method is none of {', '.join(AUTH_METHODS)}")
        return cls(
            name=name,
            token_url=section.token_url,
            client_id=section.client_id,
            auth_method=section.auth_method,
            client_secret=secret,
            signer=signer,
            key_id=key_id,
            # RFC 7523 3: the token endpoint's own URL, exactly as used for the POST.
            assertion_audience=section.assertion_audience or section.token_url,
            assertion_lifetime=section.assertion_lifetime,
            audience_parameter=section.audience_parameter,
            send_client_id=section.send_client_id,
            extra_parameters=tuple(section.extra_parameters.items()),
            default_lifetime=section.default_lifetime,
            ca_file=_absolute(section.ca_file, base),
            client_certificate_file=certificate,
            client_key_file=key,
            egress_proxy=section.egress_proxy,
            timeout=section.timeout,
            fingerprint=fingerprint,
        )

    def __repr__(self) -> str:
        return f"<Credential {self.name} {self.auth_method} {self.fingerprint}>"


def read_private_file(path: Path) -> bytes:
    """Return the content of the private file *path*; raise CredentialUnusable."""
    try:
        return private_file.read_private_file(path)
    except private_file.FileUnusable as error:
        raise CredentialUnusable(str(error)) from None


def read_secret_file(path: Path) -> Secret:
    """Return the secret in *path*, without one trailing newline.

    Raises CredentialUnusable as read_private_file does, and if the secret is empty or not UTF-8 text.
    """
    data = read_private_file(path)
    try:
        return secret_of(data)
    except ValueError as error:
        raise CredentialUnusable(f"{path} {error}") from None


def secret_of(data: bytes) -> Secret:
    """Return the secret in a file's *data*; raise ValueError if it is empty or not UTF-8 text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 text") from None
    if text.startswith("\ufeff"):
        raise ValueError(
            "begins with a byte order mark, which would be sent as part of it; save it as UTF-8 without BOM"
        )
    text = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not text:
        raise ValueError("is empty")
    return Secret(text)


def _client_secret(section: CredentialSection, base: Path) -> Secret:
    given = section.client_secret
    if given is not None and not isinstance(given, str | Secret):
        given = given.get_secret_value()
    if isinstance(given, str):
        given = Secret(given) if given else None
    if given is not None:
        return given
    if not section.client_secret_file:
        raise CredentialUnusable(f"{section.auth_method} needs client_secret_file or client_secret")
    return read_secret_file(base / section.client_secret_file)


def _signing(section: CredentialSection, base: Path) -> tuple[AssertionSigner, str, str]:
    """Return signer, kid and fingerprint for private_key_jwt."""
    if not section.private_key_file:
        raise CredentialUnusable("private_key_jwt needs private_key_file")
    if not section.key_id and not section.certificate_file:
        raise CredentialUnusable("private_key_jwt needs certificate_file (the kid is its thumbprint) or key_id")
    passphrase = None
    if section.private_key_passphrase_file:
        passphrase = read_secret_file(base / section.private_key_passphrase_file)
    key = load_private_key(base / section.private_key_file, passphrase=passphrase)
    key_id = section.key_id
    if section.certificate_file:
        certificate = load_certificate(base / section.certificate_file, passphrase=passphrase)
        if not belong_together(key, certificate):
            raise CredentialUnusable(
                f"{base / section.certificate_file} belongs to another key than {base / section.private_key_file}"
            )
        key_id = key_id or thumbprint(certificate, section.key_id_format)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return AssertionSigner(key), key_id, hashlib.sha256(spki + key_id.encode()).hexdigest()[:16]


def _transport_files(section: CredentialSection, base: Path) -> tuple[str, str]:
    """Return the files of client certificate and key for mutual TLS, or two empty strings."""
    certificate, key = _absolute(section.client_certificate_file, base), _absolute(section.client_key_file, base)
    if bool(certificate) != bool(key):
        raise CredentialUnusable("client_certificate_file and client_key_file go together")
    if key:
        # OpenSSL reads it by name later and does not check its mode.
        read_private_file(Path(key))
    return certificate, key


def _of_secret(client_id: str, secret: Secret) -> str:
    """Return a fingerprint equal on all replicas, computed slowly (scrypt) so that a weak secret can't be guessed."""
    digest = hashlib.scrypt(secret.reveal().encode(), salt=client_id.encode(), n=1 << 14, r=8, p=1, dklen=8)
    return digest.hex()


def _absolute(name: str | Path | None, base: Path) -> str:
    return str(base / name) if name else ""
