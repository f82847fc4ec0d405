import hashlib
import hmac
from pathlib import Path

import pytest

from proxy.records.body_hmac import body_digest, read_body_key

KEY = b"k" * 32


def key_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    """Return a key file."""
    path = directory / "body.key"
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_bytes(content)
    return path


def test_it_is_hmac_sha256_of_all_pieces() -> None:
    """As any tool computes it; digests don't disturb each other."""
    begin = body_digest(KEY)
    first, second = begin(), begin()

    first.update(b"one ")
    second.update(b"other")
    first.update(b"body")

    assert first.hexdigest() == hmac.new(KEY, b"one body", hashlib.sha256).hexdigest()
    assert second.hexdigest() == hmac.new(KEY, b"other", hashlib.sha256).hexdigest()


def test_a_final_line_feed_is_not_of_the_key(tmp_path: Path) -> None:
    """Editors and `openssl rand -hex` put one."""
    assert read_body_key(key_file(tmp_path, KEY + b"\n")) == KEY


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_a_key_of_no_use_is_refused(tmp_path: Path, content: bytes) -> None:
    """Guesses at bodies must not be cheaper than that."""
    with pytest.raises(OSError, match="16 to 4096"):
        read_body_key(key_file(tmp_path, content))


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Like every private file."""
    with pytest.raises(OSError, match="chmod 600"):
        read_body_key(key_file(tmp_path, KEY, mode))
