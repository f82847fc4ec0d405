"""Creates a key with a self-signed certificate or a certificate signing request, as the bank requires."""

import re
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from proxy.entropy import Entropy
from proxy.secret import Secret

# The key size named in all of the bank's documents.
KEY_BITS = 2048

VALID_DAYS = 365

# A peer whose clock is a little behind must accept a new certificate at once.
BACKDATED = timedelta(minutes=5)


# The fields of a subject in their order, each with its maximum length in characters (RFC 5280 appendix A.1).
_FIELDS = {
    "C": (NameOID.COUNTRY_NAME, 2),
    "ST": (NameOID.STATE_OR_PROVINCE_NAME, 128),
    "L": (NameOID.LOCALITY_NAME, 128),
    "O": (NameOID.ORGANIZATION_NAME, 64),
    "OU": (NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    "CN": (NameOID.COMMON_NAME, 64),
}

EXAMPLE_SUBJECT = "C=US, ST=New York, L=New York, O=Example Inc, OU=Treasury, CN=payproxy-client-testing"


class SubjectInvalid(ValueError):
    """The bank would reject this subject; the message names the field and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The six subject fields that the bank requires, none of them empty."""

    country: str
    state: str
    locality: str
    organization: str
    unit: str
    common_name: str

    def __post_init__(self) -> None:
        for (short, (_, longest)), value in zip(_FIELDS.items(), astuple(self), strict=True):
            if not value.strip():
                raise SubjectInvalid(f"{short} is missing or empty; the bank wants all of C, ST, L, O, OU and CN")
            if len(value) > longest:
                raise SubjectInvalid(f"{short} is longer than {longest} characters")
            if not value.isprintable():
                raise SubjectInvalid(f"{short} holds a control character")
        if not re.fullmatch("[A-Z]{2}", self.country):
            raise SubjectInvalid("C is the two upper-case letters of the country, such as US (ISO 3166)")

    @classmethod
    def parse(cls, text: str) -> "Subject":
        r"""Parse `C=US, ST=..., L=...` or openssl's `/C=US/ST=...`; a backslash escapes a separator: `O=Miller\, Inc`.

        Raises SubjectInvalid.
        """
        separator = "/" if text.startswith("/") else ","
        values: dict[str, str] = {}
        for part in re.split(rf"(?<!\\){separator}", text.removeprefix("/")):
            name, equals, value = part.partition("=")
            short = name.strip().upper()
            if not equals or short not in _FIELDS:
                raise SubjectInvalid(
                    f"{part.strip()!r} is none of C=, ST=, L=, O=, OU=, CN=; write {EXAMPLE_SUBJECT!r}"
                )
            if short in values:
                raise SubjectInvalid(f"{short} is given twice")
            values[short] = re.sub(r"\\(.)", r"\1", value.strip())
        return cls(**{field.name: values.get(short, "") for field, short in zip(fields(cls), _FIELDS, strict=True)})

    def name(self) -> x509.Name:
        """Return the distinguished name, fields in the order C, ST, L, O, OU, CN."""
        return x509.Name(
            [x509.NameAttribute(oid, value) for (oid, _), value in zip(_FIELDS.values(), astuple(self), strict=True)]
        )


def new_key() -> RSAPrivateKey:
    """Return a new RSA key; OpenSSL supplies the randomness, which can't be injected."""
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def key_pem(key: RSAPrivateKey, *, passphrase: Secret | None = None) -> bytes:
    """Return *key* as PKCS#8 PEM, which all of the bank's samples read; store it with mode 0600.

    It is encrypted if there is a *passphrase*.
    """
    cipher: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        cipher = serialization.BestAvailableEncryption(passphrase.reveal().encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)


def public_pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return a certificate or request as PEM."""
    return thing.public_bytes(serialization.Encoding.PEM)


def self_signed(key: RSAPrivateKey, subject: Subject | x509.Name, *, now: float, entropy: Entropy) -> x509.Certificate:
    """Return a self-signed certificate of *key*, valid for a year from *now* (epoch seconds).

    Its key usage is digital signature, and it is no CA (RFC 5280 4.2.1.3, 4.2.1.9).
    """
    begin = datetime.fromtimestamp(int(now), UTC)
    # RFC 5280 4.1.2.2: positive and at most 20 octets; the lowest bit is set so that it is not zero.
    serial = int.from_bytes(entropy.token_bytes(19), "big") | 1
    public = key.public_key()
    name = subject.name() if isinstance(subject, Subject) else subject
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(begin + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signing_only(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def signing_request(key: RSAPrivateKey, subject: Subject) -> x509.CertificateSigningRequest:
    """Return a PKCS#10 request without extensions, like `openssl req -new`, which the bank asks for."""
    return x509.CertificateSigningRequestBuilder().subject_name(subject.name()).sign(key, hashes.SHA256())


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
