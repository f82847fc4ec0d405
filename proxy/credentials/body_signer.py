"""The key with which the bodies of some rules are signed (RFC 7515, RS256), made from their settings."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.credentials.key_user import KeyUser
from proxy.credentials.keys import (
    KeyUnusable,
    belong_together,
    key_thumbprint,
    load_certificate,
    load_private_key,
    rsa_key_of,
)
from proxy.credentials.remote_key import RemoteKey
from proxy.credentials.signing_key import signing_key
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.model import RouteSection, Settings
from proxy.settings.signature import SignatureSection
from proxy.settings.signing_key import pin_file

# Signed to see that a key works; nothing that means anything has this digest.
_TRIAL = hashlib.sha256(b"payproxy signs this to try a key").digest()


class BodySigner(KeyUser):
    """Signs digests with one key; *foreign* are the keys of credentials, none of which it may be.

    The worker that has a body is not believed: with a credential's key, it could have the digest of an assertion
    signed. A key in a device is compared when it first signs.
    """

    def __init__(self, key: RSAPrivateKey, *, foreign: Iterable[RSAPublicKey] = ()) -> None:
        super().__init__(key)
        self.users = 0  # generations of workers that it signs for; the last one closes it
        self.foreign = frozenset(map(key_thumbprint, foreign))  # thumbprints
        self._thumbprint = ""
        if not isinstance(key, RemoteKey):
            self._identify()

    @classmethod
    def load(cls, section: SignatureSection, *, foreign: Iterable[RSAPublicKey] = ()) -> Self:
        """Read the files of *section*, which also the checks read; raise KeyUnusable."""
        try:
            passphrase = _secret(section.private_key_passphrase_file)
            pin = _secret(pin_file(section))
        except CredentialUnusable as error:
            raise KeyUnusable(str(error)) from None
        certificate = _certificate(section, passphrase)
        key = signing_key(section, certificate=certificate, passphrase=passphrase, pin=pin)
        if certificate is not None and not isinstance(key, RemoteKey) and not belong_together(key, certificate):
            raise KeyUnusable(f"{section.certificate_file} belongs to another key than {section.private_key_file}")
        return cls(key, foreign=foreign)

    @property
    def remote(self) -> bool:
        """Return whether the key is in a device, which opens when it first signs."""
        return isinstance(self._key, RemoteKey)

    async def sign(self, digest: bytes) -> tuple[bytes, str]:
        """Return the RS256 signature (RFC 7518 3.3) of the input with the SHA-256 *digest*, and the key's thumbprint.

        Runs in a thread. Raises KeyUnusable, KeyUnavailable if it may work later.
        """
        signature: bytes = await self._run(self._signed, digest)
        return signature, self._thumbprint

    async def prove(self) -> str:
        """Make one signature that is thrown away, and return the key's thumbprint; raise as `sign`."""
        return (await self.sign(_TRIAL))[1]

    def _signed(self, digest: bytes) -> bytes:
        signature = self._key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        if not self._thumbprint:
            self._identify()
        return signature

    def forbid(self, foreign: frozenset[str]) -> None:
        """Be none of the keys with the thumbprints *foreign* either; raise KeyUnusable if this is one of them.

        Of a key in a device that is known when it first signs.
        """
        if self._thumbprint:
            _refuse(self._thumbprint, foreign)
        else:
            self.foreign |= foreign

    def _identify(self) -> None:
        thumbprint = key_thumbprint(self._key.public_key())
        _refuse(thumbprint, self.foreign)
        self._thumbprint = thumbprint


def _refuse(thumbprint: str, foreign: frozenset[str]) -> None:
    if thumbprint in foreign:
        raise KeyUnusable(
            "this key signs the assertions of a credential; make one for bodies with `payproxy keys new`, so that "
            "no worker can have an assertion signed"
        )


def keys_for_bodies(routes: Iterable[RouteSection]) -> dict[tuple[str, ...], SignatureSection]:
    """Return the settings of each key by the names of the rules that share it."""
    names: dict[tuple[object, ...], list[str]] = {}
    sections: dict[tuple[object, ...], SignatureSection] = {}
    for route in routes:
        if route.signature.configured:
            names.setdefault(route.signature.identity, []).append(route.name)
            sections[route.signature.identity] = route.signature
    return {tuple(of): sections[identity] for identity, of in names.items()}


def load_body_signers(settings: Settings) -> dict[tuple[str, ...], BodySigner]:
    """Return each key for bodies by the names of its rules; reads the files. Raises KeyUnusable, naming the rule."""
    foreign = assertion_keys(settings.credentials.values())
    found = {}
    for names, section in keys_for_bodies(settings.routes).items():
        try:
            found[names] = BodySigner.load(section, foreign=foreign)
        except KeyUnusable as error:
            raise KeyUnusable(f"signature of route {names[0]}: {error}") from None
    return found


def assertion_keys(credentials: Iterable[CredentialSection]) -> list[RSAPublicKey]:
    """Return the public keys that sign the assertions of *credentials*, without those that no file shows."""
    return [key for one in credentials for key in (_of_certificate(one), _of_file(one)) if key is not None]


def _of_certificate(credential: CredentialSection) -> RSAPublicKey | None:
    try:
        return rsa_key_of(load_certificate(Path(credential.certificate_file))) if credential.certificate_file else None
    except KeyUnusable:
        return None


def _of_file(credential: CredentialSection) -> RSAPublicKey | None:
    if not credential.private_key_file:
        return None
    try:
        passphrase = _secret(credential.private_key_passphrase_file)
        return load_private_key(Path(credential.private_key_file), passphrase=passphrase).public_key()
    except (KeyUnusable, CredentialUnusable):
        return None


def _secret(file: str) -> Secret | None:
    return read_secret_file(Path(file)) if file else None


def _certificate(section: SignatureSection, passphrase: Secret | None) -> x509.Certificate | None:
    file = section.certificate_file
    return load_certificate(Path(file), passphrase=passphrase) if file else None
