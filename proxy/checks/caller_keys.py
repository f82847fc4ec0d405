"""Public keys of callers that sign assertions, as plain numbers: workers verify without the cryptography library."""

from pathlib import Path

from proxy.callers.rsa_verify import RsaKey
from proxy.credentials.keys import KeyUnusable, load_certificate, rsa_key_of


def assertion_key(path: Path) -> tuple[str, int]:
    """Return modulus (in hex) and public exponent of the key in the certificate *path*.

    Raises KeyUnusable, also for a key that is not RSA, too weak or too costly.
    """
    key = rsa_key_of(load_certificate(path))
    if key is None:
        raise KeyUnusable(f"{path}: the key is not RSA; assertions are RS256 only")
    numbers = key.public_numbers()
    try:
        RsaKey(numbers.n, numbers.e)
    except ValueError as error:
        raise KeyUnusable(f"{path}: {error}; have the caller sign with another key") from None
    return f"{numbers.n:x}", numbers.e
