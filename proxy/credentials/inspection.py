"""Reads a file of unknown kind (key, certificate, both, or a request); finds the certificate of a thumbprint."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from proxy.credentials.keys import (
    THUMBPRINT_FORMS,
    KeyUnusable,
    key_thumbprint,
    load_certificate,
    load_private_key,
    thumbprint,
)
from proxy.private_file import FileUnusable, read_file
from proxy.secret import Secret

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The content of one file; *problem* says why it can't be used, "" if it can."""

    path: Path
    problem: str = ""
    key: RSAPrivateKey | None = None
    certificate: x509.Certificate | None = None
    request: x509.CertificateSigningRequest | None = None

    @property
    def kind(self) -> str:
        """Return the kind of the content in words, "" if nothing was read."""
        things = {
            "private key": self.key,
            "certificate": self.certificate,
            "certificate signing request": self.request,
        }
        return " and ".join(name for name, thing in things.items() if thing)

    @property
    def subject(self) -> str:
        """Return the distinguished name in the certificate or request."""
        named = self.certificate or self.request
        return named.subject.rfc4514_string() if named else ""

    @property
    def bits(self) -> int:
        """Return the size of the RSA key, 0 for other kinds of key."""
        public = self._public()
        return public.key_size if isinstance(public, RSAPublicKey) else 0

    @property
    def identity(self) -> bytes:
        """Return the SubjectPublicKeyInfo, equal for things that belong together (b"" if nothing was read)."""
        public = self._public()
        if public is None:
            return b""
        return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def thumbprints(self) -> dict[str, str]:
        """Return the certificate's thumbprint in each form, {} without a certificate."""
        return {form: thumbprint(self.certificate, form) for form in THUMBPRINT_FORMS} if self.certificate else {}

    @property
    def key_thumbprint(self) -> str:
        """Return the thumbprint of the RSA key itself (RFC 7638), which records of signed bodies name, or ""."""
        public = self._public()
        return key_thumbprint(public) if isinstance(public, RSAPublicKey) else ""

    def _public(self) -> CertificatePublicKeyTypes | None:
        holder = self.key or self.certificate or self.request
        try:
            return holder.public_key() if holder else None
        except (UnsupportedAlgorithm, ValueError):  # an unknown kind of key in the certificate
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A thumbprint and its certificate's *name*; *form* is "" if none matches, *exact* if spelled as in the form."""

    text: str
    name: str = ""
    form: str = ""
    exact: bool = False


def inspect(path: Path, *, passphrase: Secret | None = None) -> Inspection:
    """Return what *path* holds; never raise for its content."""
    data = _beginning(path)
    if b"CERTIFICATE REQUEST-----" in data:
        return _request(path, data)
    key, key_problem = _tried(load_private_key, path, passphrase)
    certificate, certificate_problem = _tried(load_certificate, path, passphrase)
    if b"-----BEGIN " in data:
        problem = key_problem if b"PRIVATE KEY-----" in data else ""
        if b"PRIVATE KEY-----" not in data or b"-----BEGIN CERTIFICATE-----" in data:
            problem = problem or certificate_problem
    else:  # DER or PKCS#12: whichever was read
        problem = "" if key or certificate else key_problem
    return Inspection(path=path, problem=problem, key=key, certificate=certificate)


def _beginning(path: Path) -> bytes:
    try:
        return read_file(path).data
    except FileUnusable:  # the loaders report the reason
        return b""


def _tried(load: Callable[..., Loaded], path: Path, passphrase: Secret | None) -> tuple[Loaded | None, str]:
    try:
        return load(path, passphrase=passphrase), ""
    except KeyUnusable as error:
        return None, str(error)


def _request(path: Path, data: bytes) -> Inspection:
    try:
        request = x509.load_pem_x509_csr(data)
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        request, valid = None, False
    if request is None or not valid:
        return Inspection(path=path, problem=f"{path}: the request is damaged or half written; make it again")
    return Inspection(path=path, request=request)


def recognise(text: str, certificates: Mapping[str, x509.Certificate]) -> Recognised:
    """Return which of the named *certificates* has the thumbprint *text*, also in another spelling."""
    wanted = text.strip()
    prints = [
        (name, form, thumbprint(certificate, form))
        for name, certificate in certificates.items()
        for form in THUMBPRINT_FORMS
    ]
    for name, form, value in prints:
        if value == wanted:
            return Recognised(text=wanted, name=name, form=form, exact=True)
    for name, form, value in prints:
        if _plain(wanted, form=form) == _plain(value, form=form):
            return Recognised(text=wanted, name=name, form=form)
    return Recognised(text=wanted)


def _plain(text: str, *, form: str) -> str:
    """Return *text* without the parts in which spellings of the same digest differ."""
    if form.endswith("-hex"):
        return re.sub(r"[\s:.-]", "", text).upper().removeprefix("0X")
    return text.rstrip("=").replace("+", "-").replace("/", "_")
