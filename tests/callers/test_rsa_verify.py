"""RS256 without a library: what cryptography signs verifies, and nothing else does."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.callers.rsa_verify import RsaKey
from tests.callers.clients import private_key, public_key

MESSAGE = b"header.claims"
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def sign(private: rsa.RSAPrivateKey, message: bytes = MESSAGE, *, algorithm: HashAlgorithm | None = None) -> bytes:
    """Return the signature by cryptography."""
    return private.sign(message, padding.PKCS1v15(), algorithm or SHA256())


def raw(private: rsa.RSAPrivateKey, encoded: bytes) -> bytes:
    """Return the signature whose opening gives *encoded*, whatever that is."""
    numbers = private.private_numbers()
    return pow(int.from_bytes(encoded), numbers.d, numbers.public_numbers.n).to_bytes(len(encoded))


def filled(tail: bytes, *, size: int = 256, first: bytes = b"\x00\x01", fill: bytes = b"\xff") -> bytes:
    """Return an encoded message of *size* bytes that ends in *tail*."""
    return first + fill * (size - len(first) - 1 - len(tail)) + b"\x00" + tail


@pytest.mark.parametrize(("bits", "exponent"), [(2048, 65537), (2048, 3), (2056, 65537), (3072, 65537), (4096, 65537)])
def test_what_cryptography_signs_verifies(bits: int, exponent: int) -> None:
    """For all sizes in use, a small exponent, and a modulus that fills no power of two."""
    private = private_key(bits=bits, exponent=exponent)
    key = public_key(private)

    assert key.verifies(MESSAGE, sign(private))
    assert not key.verifies(MESSAGE + b"x", sign(private))
    assert not public_key(private_key("other")).verifies(MESSAGE, sign(private))
    assert repr(key) == f"<RsaKey of {bits} bits>"


@pytest.mark.parametrize("algorithm", [SHA1(), SHA512()])  # noqa: S303 - to be refused
def test_another_hash_does_not_verify(algorithm: HashAlgorithm) -> None:
    """SHA-256 stands in the signature too, not only in the header."""
    private = private_key()

    assert not public_key(private).verifies(MESSAGE, sign(private, algorithm=algorithm))


def test_pss_does_not_verify() -> None:
    """PS256 is another algorithm."""
    private = private_key()
    signature = private.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())

    assert not public_key(private).verifies(MESSAGE, signature)


def test_a_signature_has_exactly_the_length_of_the_modulus() -> None:
    """Truncated, padded with a zero, or without the zero that it begins with (RFC 8017 8.2.2, step 1)."""
    private = private_key()
    key = public_key(private)
    messages = (b"message %d" % number for number in range(5000))
    message, signature = next((one, it) for one in messages if (it := sign(private, one))[0] == 0)

    assert key.verifies(message, signature)
    for wrong in (signature[1:], b"\x00" + signature, signature + b"\x00", signature[:-1], b"", b"\x00" * 256):
        assert not key.verifies(message, wrong)


def test_a_number_above_the_modulus_does_not_verify() -> None:
    """Though s + n opens to the same bytes: it would be a second spelling of one signature (RFC 8017 5.2.2)."""
    private = min(map(private_key, ("erp", "batch", "other")), key=lambda one: public_key(one).modulus)
    key = public_key(private)
    messages = (b"message %d" % number for number in range(5000))
    message, number = next(
        (one, number)
        for one in messages
        if (number := int.from_bytes(sign(private, one)) + key.modulus).bit_length() <= 2048
    )

    assert key.verifies(message, (number - key.modulus).to_bytes(256))
    assert not key.verifies(message, number.to_bytes(256))


@pytest.mark.parametrize(
    "encoded",
    [
        filled(bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + hashlib.sha256(MESSAGE).digest()),
        filled(SHA256_INFO + hashlib.sha256(MESSAGE).digest(), fill=b"\xfe"),
        filled(SHA256_INFO + hashlib.sha256(MESSAGE).digest(), first=b"\x00\x02"),
        filled(hashlib.sha256(MESSAGE).digest()),
        filled(SHA256_INFO + hashlib.sha256(MESSAGE).digest() + b"\x00"),
        b"\x00\x01" + b"\xff" * 8 + b"\x00" + SHA256_INFO + hashlib.sha256(MESSAGE).digest() + b"\x00" * 194,
        b"\x00" * (256 - 51) + SHA256_INFO + hashlib.sha256(MESSAGE).digest(),
    ],
    ids=["no NULL", "fill", "block type 2", "bare hash", "byte behind", "short padding", "no padding"],
)
def test_any_other_encoding_does_not_verify(encoded: bytes) -> None:
    """Though the owner of the key has signed it: one encoding, compared byte for byte (RFC 8017 9.2)."""
    private = private_key()

    assert public_key(private).verifies(MESSAGE, raw(private, filled(SHA256_INFO + hashlib.sha256(MESSAGE).digest())))
    assert not public_key(private).verifies(MESSAGE, raw(private, encoded))


def test_a_forged_cube_root_does_not_verify() -> None:
    """Bleichenbacher 2006: with exponent 3 anyone can make a number whose cube begins like a signed message."""
    key = public_key(private_key(exponent=3))
    beginning = b"\x00\x01" + b"\xff" * 8 + b"\x00" + SHA256_INFO + hashlib.sha256(MESSAGE).digest()
    forged = cube_root(int.from_bytes(beginning + b"\xff" * (256 - len(beginning))))

    assert pow(forged, 3).to_bytes(256).startswith(beginning)
    assert not key.verifies(MESSAGE, forged.to_bytes(256))


def cube_root(number: int) -> int:
    """Return the largest whole number whose cube is at most *number*."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


@given(st.integers(0, 255), st.integers(1, 255))
def test_a_changed_byte_does_not_verify(place: int, change: int) -> None:
    """Whichever it is."""
    private = private_key()
    signature = bytearray(sign(private))
    signature[place] ^= change

    assert not public_key(private).verifies(MESSAGE, bytes(signature))


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_it_agrees_with_cryptography(message: bytes) -> None:
    """On whatever is signed."""
    private = private_key()

    assert public_key(private).verifies(message, sign(private, message))


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        (1 << 1023 | 1, 65537),
        (1 << 2046 | 1, 65537),
        (1 << 8192 | 1, 65537),
        (1 << 2047, 65537),
        (1 << 2047 | 1, 1),
        (1 << 2047 | 1, 65536),
        (1 << 2047 | 1, (1 << 64) + 1),
        (1 << 2047 | 1, -3),
        (0, 3),
    ],
)
def test_weak_and_costly_keys_are_refused(modulus: int, exponent: int) -> None:
    """Before anything is verified with them."""
    with pytest.raises(ValueError, match=r"RSA key"):
        RsaKey(modulus, exponent)
