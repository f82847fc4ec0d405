"""Makes the secrets that the services of compose.yaml share, once, and copies the client secret at each start.

Runs as root in payproxy's image, in the service "secrets". First argument: the folder with payproxy, redis and
postgres, each the volume of one service. Second: the file with the client secret, which payproxy could not read where
Docker mounts it, with the owner that it has on the host. No secret is printed.
"""

import base64
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# User and group in the images payproxy, redis (Debian) and postgres (Debian).
OWNERS = {"payproxy": 10001, "redis": 999, "postgres": 999}
YEARS = 2
# Where payproxy finds its folder.
PLACE = "/etc/payproxy/secrets"

REDIS = """\
port 0
tls-port 6379
tls-cert-file /secrets/tls.crt
tls-key-file /secrets/tls.key
tls-ca-cert-file /secrets/ca.crt
tls-auth-clients no
requirepass {password}
dir /data
appendonly yes
maxmemory-policy noeviction
"""

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def main(root: Path, client_secret: Path) -> None:
    """Make all files below *root*, unless that was done before, and copy *client_secret*."""
    write(root, "payproxy", "client-secret", client_secret.read_text())
    done = root / "payproxy" / "state.key"
    if done.exists():
        sys.stdout.write("the secrets are there already\n")
        return
    authority = certificate("payproxy compose CA", None)
    passwords = {name: os.urandom(24).hex() for name in ("redis", "postgres")}
    for service in ("redis", "postgres"):
        pair = certificate(service, authority)
        write(root, service, "tls.key", private(pair))
        write(root, service, "tls.crt", public(pair))
    write(root, "redis", "ca.crt", public(authority))
    write(root, "redis", "redis.conf", REDIS.format(password=passwords["redis"]))
    write(root, "postgres", "password", passwords["postgres"])
    write(root, "payproxy", "ca.crt", public(authority))
    write(root, "payproxy", "redis-url", f"rediss://:{passwords['redis']}@redis:6379/0")
    query = f"sslmode=verify-full&sslrootcert={PLACE}/ca.crt"
    write(
        root,
        "payproxy",
        "database-url",
        f"postgresql://payproxy:{passwords['postgres']}@postgres:5432/payproxy?{query}",
    )
    write(root, "payproxy", "state.key", base64.b64encode(os.urandom(32)).decode())
    sys.stdout.write("the secrets are made\n")


def certificate(name: str, issuer: Pair | None) -> Pair:
    """Return a certificate for the host *name* with its key, from *issuer*; without one, that of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    own = issuer is None
    signer = key if issuer is None else issuer[1]
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_key, critical=False)
        .add_extension(usage(sign=own), critical=True)
    )
    if not own:
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256()), key


def usage(*, sign: bool) -> x509.KeyUsage:
    """Return what a key is for: to sign certificates, or else for TLS."""
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def public(pair: Pair) -> str:
    """Return the certificate as PEM."""
    return pair[0].public_bytes(Encoding.PEM).decode()


def private(pair: Pair) -> str:
    """Return the key as PEM."""
    return pair[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def write(root: Path, service: str, name: str, text: str) -> None:
    """Write a file that only the user of the *service* may read."""
    path = root / service / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    os.chown(path, OWNERS[service], OWNERS[service])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
