"""A credential in the keeper, including its secrets."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy import private_file
from proxy.credentials.client_assertion import AssertionSigner
from proxy.credentials.keys import (
    KeyUnusable,
    belong_together,
    load_certificate,
    renewal_unfinished,
    thumbprint,
)
from proxy.credentials.remote_key import RemoteKey
from proxy.credentials.signing_key import signing_key
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.pkcs11_uri import Pkcs11Uri

PRIVATE_KEY_JWT = "private_key_jwt"

# Taken over from the section as they are.
_SAME = (
    "token_url",
    "client_id",
    "auth_method",
    "assertion_audience",
    "assertion_lifetime",
    "audience_parameter",
    "send_client_id",
    "default_lifetime",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
    "egress_proxy",
    "timeout",
    "share_tokens",
)


class SecretUnusable(ValueError):
    """A file's content is no secret; the message says why and how to fix it, without quoting it."""


class CredentialUnusable(ValueError):
    """A credential can't be used; the message says which, why and how to fix it, never a secret."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One credential of `[credentials]`, ready to mint with; times in seconds, file names absolute or "".

    *key_fingerprint* (16 hex digits) changes with the key or client certificate; it is "" with a secret.
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
    share_tokens: bool = True
    key_fingerprint: str = ""

    @classmethod
    def load(cls, section: CredentialSection, *, name: str, shared: bool = False) -> Self:
        """Read the files of *section* and return the credential *name*; raise CredentialUnusable.

        With *shared* its fingerprint is computed too, in this thread.
        """
        try:
            loaded = cls._load(section, name)
        except (KeyUnusable, CredentialUnusable) as error:
            raise CredentialUnusable(f"credential {name}: {error}") from None
        if shared:
            _ = loaded.fingerprint
        return loaded

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with key, secret or client certificate, and reveal none of them.

        Equal on all replicas; that of a secret takes 50 ms of CPU and 16 MB, once.
        """
        return self.key_fingerprint or _of_secret(self.client_id, self.client_secret)

    def same_key(self, other: "Credential") -> bool:
        """Return whether both have the same key, secret or client certificate: whether the fingerprints are equal."""
        return (self.key_fingerprint, self.client_secret, self.client_id) == (
            other.key_fingerprint,
            other.client_secret,
            other.client_id,
        )

    @classmethod
    def _load(cls, section: CredentialSection, name: str) -> Self:
        if clash := sorted(section.reserved_parameters.intersection(section.extra_parameters)):
            raise CredentialUnusable(f"extra_parameters may not set {', '.join(clash)}")
        certificate, key = section.client_certificate_file, section.client_key_file
        if bool(certificate) != bool(key):
            raise CredentialUnusable("client_certificate_file and client_key_file go together")
        if key:
            # OpenSSL reads it by name later and does not check its mode.
            read_private_file(Path(key))
        secret, signer, key_id, fingerprint = None, None, "", ""
        match section.auth_method:
            case "client_secret_basic" | "client_secret_post":
                secret = _client_secret(section)
            case "private_key_jwt":
                signer, key_id, fingerprint = _signing(section)
            case "tls_client_auth":
                if not certificate:
                    raise CredentialUnusable("tls_client_auth needs client_certificate_file and client_key_file")
                der = load_certificate(Path(certificate)).public_bytes(Encoding.DER)
                fingerprint = hashlib.sha256(der).hexdigest()[:16]
        return cls(
            name=name,
            client_secret=secret,
            signer=signer,
            key_id=key_id,
            extra_parameters=tuple(section.extra_parameters.items()),
            key_fingerprint=fingerprint,
            **{same: getattr(section, same) for same in _SAME},
        )

    def __repr__(self) -> str:
        return f"<Credential {self.name} {self.auth_method} {self.key_fingerprint or '***'}>"


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
    try:
        return secret_of(read_private_file(path))
    except SecretUnusable as error:
        raise CredentialUnusable(f"{path} {error}") from None


def secret_of(data: bytes) -> Secret:
    """Return the secret in a file's *data*; raise SecretUnusable if it is empty or not UTF-8 text."""
    fix = "write the secret alone into it, as UTF-8 text without BOM"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretUnusable(f"is no UTF-8 text; {fix}") from None
    if text.startswith("\ufeff"):
        raise SecretUnusable(
            "begins with a byte order mark, which would be sent as part of it; save it as UTF-8 without BOM"
        )
    text = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not text:
        raise SecretUnusable(f"is empty; {fix}")
    return Secret(text)


def _client_secret(section: CredentialSection) -> Secret:
    if section.client_secret is not None:
        return section.client_secret
    if not section.client_secret_file:
        raise CredentialUnusable(f"{section.auth_method} needs client_secret_file or client_secret")
    return read_secret_file(Path(section.client_secret_file))


def _signing(section: CredentialSection) -> tuple[AssertionSigner, str, str]:
    """Return signer, kid and fingerprint for private_key_jwt."""
    if not section.key_id and not section.certificate_file:
        raise CredentialUnusable("private_key_jwt needs certificate_file (the kid is its thumbprint) or key_id")
    passphrase = _secret_in(section.private_key_passphrase_file)
    certificate = None
    if section.certificate_file:
        certificate = load_certificate(Path(section.certificate_file), passphrase=passphrase)
    pin = _secret_in(section.pin_file) or section.private_key_pin
    key = signing_key(section, certificate=certificate, passphrase=passphrase, pin=pin)
    key_id = section.key_id
    if certificate is not None:
        if not isinstance(key, RemoteKey) and not belong_together(key, certificate):
            what = f"{section.certificate_file} belongs to another key than {section.private_key_file}"
            if renewal_unfinished(key, Path(section.certificate_file)):
                what += "; `payproxy keys renew` was interrupted: run it again for this credential"
            raise CredentialUnusable(what)
        key_id = key_id or thumbprint(certificate, section.key_id_format)
    return AssertionSigner(key), key_id, _of_key(key, certificate, section, key_id)


def _of_key(key: RSAPrivateKey, certificate: x509.Certificate | None, section: CredentialSection, key_id: str) -> str:
    """Return a fingerprint, equal on all replicas; a key in a device is not asked, since the device may be away."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if not isinstance(key, RemoteKey):
        parts = [key.public_key().public_bytes(*form)]
    else:
        parts = [certificate.public_key().public_bytes(*form)] if certificate is not None else []
        parts += [Pkcs11Uri.parse(section.private_key_uri).identity.encode()] if section.private_key_uri else []
        parts += [part.encode() for part in section.signer_command]
    return hashlib.sha256(b"".join([*parts, key_id.encode()])).hexdigest()[:16]


def _secret_in(file: str) -> Secret | None:
    return read_secret_file(Path(file)) if file else None


def _of_secret(client_id: str, secret: Secret | None) -> str:
    """Return a fingerprint equal on all replicas, computed slowly (scrypt) so that a weak secret can't be guessed."""
    text = secret.reveal() if secret is not None else ""
    digest = hashlib.scrypt(text.encode(), salt=client_id.encode(), n=1 << 14, r=8, p=1, dklen=8)
    return digest.hex()
