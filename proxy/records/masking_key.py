"""The key of the HMAC in masked values: shared by workers and searches, and by all instances that share a state.

Each data directory has its own key, made once. Instances with a shared state use a key derived from the state's sealing
key, so that a value masked by one is found from each. It is stored in a file beside the own key, with all keys used
before: workers, which have no access to the state, and searches read it there.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from proxy.atomic_file import replace_file
from proxy.entropy import Entropy
from proxy.private_file import FileUnusable
from proxy.records.generated_key import make_once, read_own_file

KEY_FILE = "masking.key"
SHARED_FILE = "masking-shared.key"
_KEY_BYTES = 32
_MOST_SHARED = 32


def masking_key(data_directory: Path, *, entropy: Entropy) -> bytes:
    """Return the current key of *data_directory*; creates the file (0600) if there is none; raises OSError."""
    shared = _shared(data_directory)
    return shared[0] if shared else _own(data_directory, entropy=entropy)


def read_masking_keys(data_directory: Path) -> list[bytes]:
    """Return all keys that values may have been masked with, the newest first; raises OSError."""
    keys = _shared(data_directory)
    if (own := data_directory / KEY_FILE).exists():
        keys.append(_read(own))
    return list(dict.fromkeys(keys))


def share_masking_key(data_directory: Path, secrets: Sequence[bytes], *, environment: str, entropy: Entropy) -> None:
    """Mask from now on with a key derived from the first of *secrets*; raises OSError.

    Keys of the other secrets, and earlier keys, are kept for searches. Without secrets the own key is used again.
    """
    known = _shared(data_directory)
    info = f"payproxy masking key 1\n{environment}".encode()
    keys = [hmac.new(secret, info, sha256).digest() for secret in secrets]
    if not keys and not known:
        return
    wanted = list(dict.fromkeys([*(keys or [_own(data_directory, entropy=entropy)]), *known]))[:_MOST_SHARED]
    if wanted == known:
        return
    replace_file(data_directory / SHARED_FILE, wanted)


def _own(data_directory: Path, *, entropy: Entropy) -> bytes:
    path = data_directory / KEY_FILE
    if not path.exists():
        make_once(path, entropy.token_bytes(_KEY_BYTES), entropy=entropy)
    return _read(path)


def _shared(data_directory: Path) -> list[bytes]:
    path = data_directory / SHARED_FILE
    if not path.exists():
        return []
    data = read_own_file(path)
    if not data or len(data) % _KEY_BYTES:
        raise FileUnusable(path, f"does not hold keys of {_KEY_BYTES} bytes", "restore it, or remove it")
    return [data[at : at + _KEY_BYTES] for at in range(0, len(data), _KEY_BYTES)]


def _read(path: Path) -> bytes:
    key = read_own_file(path)
    if len(key) != _KEY_BYTES:
        # A new key would make all earlier masked values unfindable, so it is never replaced silently.
        raise FileUnusable(path, f"does not hold {_KEY_BYTES} bytes", "restore it, or remove it to have it made")
    return key
