"""Password hashes of operators: scrypt (RFC 7914) in the string format of the Password Hashing Competition."""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field

# As passlib and others write it, in base64 with "." for "+" in some of them, and without padding.
_FORMAT = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,3}),p=([0-9]{1,3})"
    r"\$([A-Za-z0-9+/.]{11,})={0,2}\$([A-Za-z0-9+/.]{21,})={0,2}"
)
# A sign-in must not take the keeper's memory, nor a core for long.
MOST_BYTES = 64 << 20
_MOST_WORK = 4 * MOST_BYTES
# OWASP's advice for interactive sign-in with 32 MB.
_LN, _R, _P = 15, 8, 1
_DIGEST_BYTES = 32
SALT_BYTES = 16


class HashUnusable(ValueError):
    """The text is no scrypt hash, or needs too much memory or time; the message does not repeat it."""


@dataclass(frozen=True, slots=True)
class ScryptParameters:
    """Cost 2^*ln*, block size *r*, parallelization *p*; *salt* and *digest* are bytes."""

    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


def parse(text: str) -> ScryptParameters:
    """Return the parameters of the hash *text*; raises HashUnusable."""
    found = _FORMAT.fullmatch(text)
    if found is None:
        raise HashUnusable("is no scrypt hash but perhaps a password")
    ln, r, p = (int(number) for number in found.groups()[:3])
    # Shifting by *ln*, two digits, is cheap; computing with it would not be.
    memory = 128 * r << ln
    if not (ln and r and p):
        raise HashUnusable("has a parameter of 0")
    if ln >= 16 * r:  # RFC 7914 2: N is below 2^(128 r / 8)
        raise HashUnusable(f"has a cost (ln) that its block size (r) does not allow: at most {16 * r - 1}")
    if memory > MOST_BYTES or memory * p > _MOST_WORK:
        raise HashUnusable(f"needs more than {MOST_BYTES >> 20} MB of memory, or as much work")
    try:
        return ScryptParameters(ln, r, p, _decoded(found[4]), _decoded(found[5]))
    except binascii.Error:
        raise HashUnusable("has a salt or hash that is no base64") from None


def verify(password: str, text: str) -> bool:
    """Return whether *password* has the hash *text*; takes some 0.1 s and 32 MB. Raises HashUnusable."""
    wanted = parse(text)
    return hmac.compare_digest(_digest(password, wanted, len(wanted.digest)), wanted.digest)


def make(password: str, salt: bytes) -> str:
    """Return the hash of *password* with *salt*, SALT_BYTES random bytes."""
    digest = _digest(password, ScryptParameters(_LN, _R, _P, salt, b""), _DIGEST_BYTES)
    return f"$scrypt$ln={_LN},r={_R},p={_P}${_encoded(salt)}${_encoded(digest)}"


def _digest(password: str, wanted: ScryptParameters, size: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=wanted.salt, n=1 << wanted.ln, r=wanted.r, p=wanted.p, dklen=size, maxmem=2 * MOST_BYTES
    )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4), validate=True)
