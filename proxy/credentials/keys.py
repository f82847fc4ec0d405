"""Loads private keys and certificates from files; checks each on the open descriptor, with clear error messages."""

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import pkcs12

from proxy.private_file import FileUnusable, OpenedFile, read_file
from proxy.secret import Secret
from proxy.text import base64url

# NIST SP 800-131A; the bank's own documents all name RSA 2048.
MIN_KEY_BITS = 2048

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"

THUMBPRINT_FORMS = ("sha1-hex", "x5t", "x5t#S256", "sha256-hex")


class KeyUnusable(ValueError):
    """A key or certificate can't be used; the message says why, which file and how to fix it, never key material."""


def load_private_key(path: Path, *, passphrase: Secret | None = None) -> RSAPrivateKey:
    """Return the RSA key in *path*: PEM (PKCS#1, PKCS#8, both also encrypted) or PKCS#12.

    Raises KeyUnusable, also if group or others may read the file: the mode is that of a symbolic link's target, taken
    from the descriptor that is read, so the file can't be swapped in between.
    """
    file = _read(path)
    _refuse_exposed(file)
    key = _pem_key(file, passphrase) if _is_pem(file) else _pkcs12_key(file, passphrase)
    if not isinstance(key, RSAPrivateKey):
        raise _unusable(
            file, "the key is not RSA, and the bank's assertions are RS256 only; make one with `payproxy keys new`"
        )
    if key.key_size < MIN_KEY_BITS:
        raise _unusable(
            file, f"the key has {key.key_size} bits, fewer than {MIN_KEY_BITS}; make a new one with `payproxy keys new`"
        )
    return key


def load_certificate(path: Path, *, passphrase: Secret | None = None) -> x509.Certificate:
    """Return the certificate in *path*: PEM (of a chain the first, which is the leaf), DER or PKCS#12.

    Raises KeyUnusable, also if the file holds a private key that group or others may read.
    """
    file = _read(path)
    if _holds_private_key(file):
        _refuse_exposed(file)
    if not _is_pem(file):
        return _binary_certificate(file, passphrase)
    if _CERTIFICATE not in file.data:
        held = "a private key" if _holds_private_key(file) else _held(file)
        raise _unusable(file, f"holds {held}, not a certificate; name the .crt or .pem that belongs to the key")
    try:
        return x509.load_pem_x509_certificates(file.data)[0]
    except ValueError:
        raise _unusable(file, "the certificate is damaged or half written; copy the file again") from None


def holds_no_key(path: Path) -> str:
    """Return what the PEM file *path* holds instead of a key, "" if it has a key or is no PEM; raise KeyUnusable."""
    file = _read(path)
    if not _is_pem(file) or _holds_private_key(file):
        return ""
    return _held(file)


def belong_together(key: RSAPrivateKey, certificate: x509.Certificate) -> bool:
    """Return whether *certificate* is for the public half of *key* (compares the SubjectPublicKeyInfo)."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)
    except (UnsupportedAlgorithm, ValueError):  # a certificate with another kind of key
        return False


def beside(path: Path, suffix: str) -> Path:
    """Return the file of `payproxy keys renew` beside *path*: its next content (new) or its last one (old)."""
    return path.with_name(f"{path.name}.{suffix}")


def renewal_unfinished(key: RSAPrivateKey, certificate: Path) -> bool:
    """Return whether `payproxy keys renew` has put *key* into use, but not yet what is to replace *certificate*."""
    try:
        return belong_together(key, load_certificate(beside(certificate, "new")))
    except KeyUnusable:
        return False


def rsa_key_of(certificate: x509.Certificate) -> RSAPublicKey | None:
    """Return the RSA key that *certificate* is for, None if it is for another kind of key or an unknown one."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def thumbprint(certificate: x509.Certificate, form: str) -> str:
    """Return the certificate's digest as *form*: sha1-hex (upper case, no colons), x5t, x5t#S256 or sha256-hex.

    x5t and x5t#S256 are base64url without padding (RFC 7515 4.1.7, 4.1.8); sha256-hex is upper case like sha1-hex.
    Raises ValueError for another form.
    """
    if form not in THUMBPRINT_FORMS:
        raise ValueError(f"{form!r} is none of {', '.join(THUMBPRINT_FORMS)}")
    # SHA-1 only identifies a certificate here, as the bank's portal does; no security depends on it.
    algorithm = hashes.SHA1() if form in {"sha1-hex", "x5t"} else hashes.SHA256()  # noqa: S303 - see above
    digest = certificate.fingerprint(algorithm)
    return digest.hex().upper() if form.endswith("-hex") else base64url(digest).decode()


def key_thumbprint(key: RSAPublicKey) -> str:
    """Return the thumbprint of *key* itself, whatever its certificate (RFC 7638, SHA-256, base64url)."""
    numbers = key.public_numbers()
    n, e = (base64url(each.to_bytes((each.bit_length() + 7) // 8, "big")).decode() for each in (numbers.n, numbers.e))
    return base64url(hashlib.sha256(f'{{"e":"{e}","kty":"RSA","n":"{n}"}}'.encode()).digest()).decode()


def _read(path: Path) -> OpenedFile:
    try:
        file = read_file(path)
    except FileUnusable as error:
        raise KeyUnusable(str(error)) from None
    if not file.data:
        raise _unusable(file, "is empty; copy the file again")
    return file


def _unusable(file: OpenedFile, what: str) -> KeyUnusable:
    return KeyUnusable(f"{file.path}: {what}")


def _is_pem(file: OpenedFile) -> bool:
    return b"-----BEGIN " in file.data


def _holds_private_key(file: OpenedFile) -> bool:
    return b"PRIVATE KEY-----" in file.data


def _held(file: OpenedFile) -> str:
    """Return what a PEM file without a private key holds."""
    label = file.data.partition(b"-----BEGIN ")[2].partition(b"-----")[0]
    known = {b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST", b"PUBLIC KEY", b"RSA PUBLIC KEY", b"PKCS7"}
    if _CERTIFICATE in file.data:
        return "a certificate"
    return f"a {label.decode().lower()}" if label in known else "something else"


def _refuse_exposed(file: OpenedFile) -> None:
    if file.exposed is not None:
        raise _unusable(file, f"holds a private key: {file.exposed.strerror}")


def _pem_key(file: OpenedFile, passphrase: Secret | None) -> object:
    if not _holds_private_key(file):
        raise _unusable(
            file, f"holds {_held(file)}, not a private key; name the .key file that belongs to the certificate"
        )
    encrypted = b"ENCRYPTED" in file.data  # `BEGIN ENCRYPTED PRIVATE KEY`, or `Proc-Type: 4,ENCRYPTED` of PKCS#1
    if encrypted and passphrase is None:
        raise _unusable(file, "is encrypted; set private_key_passphrase_file")
    password = passphrase.reveal().encode() if passphrase is not None and encrypted else None
    try:
        return serialization.load_pem_private_key(file.data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Drop the library's message: it may quote what it could not parse.
        if b"BEGIN OPENSSH " in file.data:
            raise _unusable(
                file, f"is an OpenSSH key; copy it and convert the copy with `ssh-keygen -p -m PEM -f {file.path}`"
            ) from None
        if encrypted:
            raise _unusable(
                file,
                "can't be decrypted: the passphrase is wrong, the file is damaged or its cipher is not supported; "
                "correct private_key_passphrase_file or copy the file again",
            ) from None
        raise _unusable(file, "the private key is damaged or half written; copy the file again") from None


def _pkcs12(file: OpenedFile, passphrase: Secret | None) -> pkcs12.PKCS12KeyAndCertificates:
    if not file.data.startswith(b"\x30"):  # PKCS#12 and DER files start with an ASN.1 SEQUENCE
        raise _unusable(file, "is neither PEM nor PKCS#12, or half written; copy the file again or correct the path")
    # RFC 7292 B.1: no password and an empty one differ; tools write either one for "no passphrase".
    passwords = [None, b""] if passphrase is None else [passphrase.reveal().encode()]
    for password in passwords:
        try:
            return pkcs12.load_pkcs12(file.data, password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    if passphrase is None:
        raise _unusable(file, "can't be read as PKCS#12: it needs private_key_passphrase_file, or it is damaged")
    raise _unusable(
        file,
        "can't be read as PKCS#12: the passphrase is wrong, the file is damaged or its cipher is too old; correct "
        "private_key_passphrase_file or export it again with `openssl pkcs12 -export`",
    )


def _pkcs12_key(file: OpenedFile, passphrase: Secret | None) -> object:
    key = _pkcs12(file, passphrase).key
    if key is None:
        raise _unusable(file, "holds no private key; export it again together with the key")
    return key


def _binary_certificate(file: OpenedFile, passphrase: Secret | None) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(file.data)
    except ValueError:
        pass
    store = _pkcs12(file, passphrase)
    if store.key is not None:
        _refuse_exposed(file)
    if store.cert is not None:
        return store.cert.certificate
    if store.additional_certs:
        return store.additional_certs[0].certificate
    raise _unusable(file, "holds no certificate; export it again together with the certificate")
