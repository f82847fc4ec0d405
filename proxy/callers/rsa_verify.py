"""RS256 verification with integers: a worker has no cryptography package, and public keys need none."""

import hashlib
from dataclasses import dataclass

# The DER prefix of a DigestInfo for SHA-256 (RFC 8017 9.2, note 1). It is generated, never parsed: bytes after the
# digest or odd parameters, which a parser may accept, allow forged signatures for small exponents.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
# RFC 7518 3.3 demands at least 2048. Above 8192 bits, or with a huge exponent, verifying blocks the loop for
# milliseconds; such keys are not used: the bank registers keys of 2048.
FEWEST_BITS = 2048
MOST_BITS = 8192
_LARGEST_EXPONENT = 1 << 64


@dataclass(frozen=True, slots=True)
class RsaKey:
    """A public key; raises ValueError if it is too weak, too costly or invalid."""

    modulus: int
    exponent: int

    def __post_init__(self) -> None:
        bits = self.modulus.bit_length()
        if not FEWEST_BITS <= bits <= MOST_BITS:
            raise ValueError(f"an RSA key must have {FEWEST_BITS} to {MOST_BITS} bits, this one has {bits}")
        if self.modulus % 2 == 0 or self.exponent % 2 == 0 or not 3 <= self.exponent < _LARGEST_EXPONENT:
            raise ValueError("the modulus or the exponent is none of an RSA key")

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether *signature* is the RSASSA-PKCS1-v1_5 signature with SHA-256 of *message* (RFC 8017 8.2.2).

        The expected encoding is built and compared byte for byte (9.2). 0.1 ms for 2048 bits and exponent 65537.
        """
        size = (self.modulus.bit_length() + 7) // 8
        number = int.from_bytes(signature)
        if len(signature) != size or number >= self.modulus:
            return False
        digest_info = _DIGEST_INFO + hashlib.sha256(message).digest()
        expected = b"\x00\x01" + b"\xff" * (size - 3 - len(digest_info)) + b"\x00" + digest_info
        return pow(number, self.exponent, self.modulus).to_bytes(size) == expected

    def __repr__(self) -> str:
        return f"<RsaKey of {self.modulus.bit_length()} bits>"
