"""The only place that draws lots."""

import os
import random
from typing import Protocol
from uuid import UUID


class Entropy(Protocol):
    """What the rest of the code may ask of chance."""

    def token_bytes(self, size: int) -> bytes:
        """Return *size* bytes fit for keys and nonces."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between *low* and *high*: for jitter, never for secrets."""


class SystemEntropy:
    """The operating system's generator."""

    token_bytes = staticmethod(os.urandom)
    uniform = staticmethod(random.uniform)


def uuid4(entropy: Entropy) -> str:
    """Return a random UUID (RFC 9562 5.4)."""
    return str(UUID(bytes=entropy.token_bytes(16), version=4))


def uuid7(entropy: Entropy, now: float) -> str:
    """Return a UUID that sorts by *now*, epoch seconds (RFC 9562 5.7)."""
    head = (int(now * 1000) & 0xFFFFFFFFFFFF).to_bytes(6, "big").hex()
    tail = int.from_bytes(entropy.token_bytes(10), "big")
    rest = f"{(0x7 << 76) | ((tail >> 64 & 0xFFF) << 64) | (0x2 << 62) | (tail & 0x3FFFFFFFFFFFFFFF):020x}"
    return f"{head[:8]}-{head[8:]}-{rest[:4]}-{rest[4:8]}-{rest[8:]}"
