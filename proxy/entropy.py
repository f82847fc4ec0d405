"""The only module that generates random values."""

import os
import random
from typing import Final, Protocol
from uuid import UUID


class Entropy(Protocol):
    """The random source for the rest of the code."""

    def token_bytes(self, size: int) -> bytes:
        """Return *size* random bytes suitable for keys and nonces."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between *low* and *high*: for jitter, never for secrets."""


class SystemEntropy:
    """The operating system's generator."""

    token_bytes = staticmethod(os.urandom)
    uniform = staticmethod(random.uniform)


def uuid4(entropy: Entropy) -> str:
    """Return a random UUID (RFC 9562 5.4)."""
    return str(UUID(bytes=entropy.token_bytes(16), version=4))


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_ID_BYTES: Final = 10
_ID_DIGITS: Final = 2 * _ID_BYTES


class Uuid7s:
    """Generates UUIDs like `uuid7`, and reads random bytes for *drawn* of them at once."""

    def __init__(self, entropy: Entropy, *, drawn: int = 64) -> None:
        self._entropy = entropy
        self._bytes = _ID_BYTES * drawn
        self._drawn = ""  # hexadecimal digits; those before *_at* are used
        self._at = 0
        self._millisecond = -1
        self._prefix = ""

    def next(self, now: float) -> str:
        """Return a UUID that sorts by *now*, epoch seconds (RFC 9562 5.7)."""
        drawn, at = self._drawn, self._at
        if at == len(drawn):
            drawn, at = self._entropy.token_bytes(self._bytes).hex(), 0
            self._drawn = drawn
        self._at = at + _ID_DIGITS
        # To the nearest microsecond first, as the times in records, by which ids are searched (`months.id_floor`).
        millisecond = int(now * 1000 + 0.0005) & 0xFFFFFFFFFFFF
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            head = f"{millisecond:012x}"
            self._prefix = f"{head[:8]}-{head[8:]}-7"
        return (
            f"{self._prefix}{drawn[at : at + 3]}-"
            f"{_VARIANTS[drawn[at + 3]]}{drawn[at + 4 : at + 7]}-{drawn[at + 7 : at + 19]}"
        )


def uuid7(entropy: Entropy, now: float) -> str:
    """Return a UUID that sorts by *now*, epoch seconds (RFC 9562 5.7)."""
    return Uuid7s(entropy, drawn=1).next(now)
