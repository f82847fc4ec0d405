"""Key files of the facade, for the workers: its signing keys and the keys in its clients' certificates."""

from pathlib import Path

from proxy.callers.bearer import FEWEST_KEY_BYTES, KEY_FILE
from proxy.checks.caller_keys import assertion_key
from proxy.entropy import Entropy
from proxy.private_file import read_key
from proxy.records.generated_key import make_once
from proxy.settings.model import Settings
from proxy.settings.values import AssertionKeys


def signing_key_files(settings: Settings) -> list[str]:
    """Return the files of the keys that sign the facade's tokens, [] without a facade."""
    if not settings.facade.paths:
        return []
    return list(settings.facade.signing_key_files) or [str(_own_key_file(settings))]


def make_signing_key(settings: Settings, *, entropy: Entropy) -> None:
    """Create the facade's own key if the configuration names none and it does not exist.

    Raises OSError, also for an unusable key: no other check reads it before the workers do. It is created before the
    keeper starts to watch it, so that its creation does not count as a rotation.
    """
    if not settings.facade.paths or settings.facade.signing_key_files:
        return
    path = _own_key_file(settings)
    if not path.exists():
        # Hex, since reading strips a final line feed, in which one of 256 random keys would end.
        make_once(path, entropy.token_bytes(FEWEST_KEY_BYTES).hex().encode() + b"\n", entropy=entropy)
    read_key(path, fewest=FEWEST_KEY_BYTES)


def assertion_keys(settings: Settings) -> AssertionKeys:
    """Return each caller's keys from its assertion_certificate_files, as modulus in hex and exponent.

    Raises KeyUnusable, also for a key that is not RSA, too weak or too costly.
    """
    return {
        name: tuple(assertion_key(Path(file)) for file in caller.assertion_certificate_files)
        for name, caller in settings.callers.items()
    }


def _own_key_file(settings: Settings) -> Path:
    return Path(settings.data_directory) / KEY_FILE
