"""Certificates made on the spot, right and wrong ones."""

import datetime as dt
import ipaddress
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_DAY = dt.timedelta(days=1)
_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=True,  # for those that are a server too
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate with its key, in memory and as a PEM file that holds both."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path


class Authority:
    """A private certificate authority that keeps its files in *folder*."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self.own = self.identity(name, own=True)

    def identity(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        own: bool = False,
        self_signed: bool = False,
        subject: x509.Name | None = None,
        starts: dt.timedelta = -_DAY,
        ends: dt.timedelta = _DAY,
    ) -> Identity:
        """Return a certificate for *host*, written to a file called after *name*."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alone = own or self_signed
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if alone else self.own.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
        )
        builder = strict(builder, key, None if alone else self.own.key, ca=own)
        if not own:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        certificate = builder.sign(key if alone else self.own.key, hashes.SHA256())
        file = self._folder / f"{self._name}-{name}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(certificate=certificate, key=key, file=file)


def strict(
    builder: x509.CertificateBuilder, key: Key, issuer_key: Key | None = None, *, ca: bool
) -> x509.CertificateBuilder:
    """Add what OpenSSL's strict verification, Python's default from 3.13 on, requires."""
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if issuer_key is not None:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(issuer, critical=False)
    return builder.add_extension(_SIGNS_CERTIFICATES, critical=True) if ca else builder


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_context(
    identity: Identity,
    *,
    client_authority: Identity | None = None,
    version: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """Return the TLS side of a bank; *version* is the only one it speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.file)
    if client_authority is not None:
        context.load_verify_locations(client_authority.file)
        context.verify_mode = ssl.CERT_REQUIRED
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is what some tests are about
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context
