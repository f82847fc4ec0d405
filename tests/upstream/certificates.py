"""Certificates made on the spot, right and wrong ones."""

import datetime as dt
import ipaddress
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


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
