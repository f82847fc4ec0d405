"""Keys, certificates and configurations on disk, for checks that open files."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from proxy.checks.offline import check_files
from proxy.settings.findings import Finding

NOW = 1_800_000_000.0

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A key and its self-signed certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, *, passphrase: bytes = b"") -> bytes:
        """Return the key as PKCS#8, encrypted if there is a *passphrase*."""
        cipher = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)


def identity(*, key: Key | None = None, begins: float = NOW - 86400, ends: float = NOW + 90 * 86400) -> Identity:
    """Return an identity that is valid from *begins* to *ends*, epoch seconds."""
    own = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(begins, UTC))
        .not_valid_after(datetime.fromtimestamp(ends, UTC) + timedelta())
        .sign(own, hashes.SHA256())
    )
    return Identity(key=own, certificate=certificate)


def write(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    """Write *data* to *path* with *mode*."""
    path.write_bytes(data)
    path.chmod(mode)
    return path


def found(folder: Path, text: str, *, environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Return what `check` finds in *text*."""
    (folder / "payproxy.toml").write_text(text)
    return check_files(None, environ=environ or {}, cwd=folder, now=NOW)


JWT = """\
environment = "client-testing"
[upstreams.payments]
url = "https://api.payments.jpmorgan.com"
[credentials.login]
flavor = "jwt"
client_id = "my-client"
private_key_file = "oauth.key"
certificate_file = "oauth.crt"
[[routes]]
name = "payments"
path = "/"
upstream = "payments"
credential = "login"
"""
