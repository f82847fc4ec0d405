import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.entropy import SystemEntropy
from proxy.records.checkpoint_key import (
    KEY_FILE,
    Checkpoint,
    checkpoint_key,
    fingerprint,
    read_checkpoint_key,
    read_public_key,
)

CLAIM = Checkpoint(instance="host-1", sequence=7, hash="ab" * 32, time="2027-01-15T08:00:00.000000Z")


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    """The next start has the same one, and only its owner may read it."""
    first = checkpoint_key(tmp_path, entropy=SystemEntropy())
    second = checkpoint_key(tmp_path, entropy=SystemEntropy())

    assert first.public == second.public
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert first.public in repr(first)


def test_a_signature_is_valid_for_its_claim_only(tmp_path: Path) -> None:
    """Any other number, hash, time or instance, and any other key, is refused."""
    (tmp_path / "other").mkdir()
    key = checkpoint_key(tmp_path, entropy=SystemEntropy())
    other = checkpoint_key(tmp_path / "other", entropy=SystemEntropy())
    signature = key.sign(CLAIM)

    assert CLAIM.is_signed(key.public, signature)
    assert not CLAIM.is_signed(other.public, signature)
    for change in ({"instance": "host-2"}, {"sequence": 8}, {"hash": "cd" * 32}, {"time": ""}):
        values = {"instance": CLAIM.instance, "sequence": 7, "hash": CLAIM.hash, "time": CLAIM.time, **change}
        assert not Checkpoint(**values).is_signed(key.public, signature)  # type: ignore[arg-type]


@pytest.mark.parametrize("nonsense", ["", "x", "ä", None, 7, base64.b64encode(b"short").decode(), "A" * 44])
def test_malformed_keys_and_signatures_are_valid_for_nothing(tmp_path: Path, nonsense: object) -> None:
    """Whatever stands where key or signature should."""
    key = checkpoint_key(tmp_path, entropy=SystemEntropy())

    assert not CLAIM.is_signed(nonsense, key.sign(CLAIM))
    assert not CLAIM.is_signed(key.public, nonsense)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The message names the way to mend it."""
    checkpoint_key(tmp_path, entropy=SystemEntropy())
    (tmp_path / KEY_FILE).chmod(0o640)

    with pytest.raises(OSError, match="chmod 600"):
        checkpoint_key(tmp_path, entropy=SystemEntropy())


@pytest.mark.parametrize("kind", ["nothing", "text", "rsa"])
def test_what_is_no_ed25519_key_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """Else all earlier checkpoints would look foreign."""
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    content = {"nothing": b"", "text": b"hello", "rsa": rsa}[kind]
    path = tmp_path / KEY_FILE
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(OSError, match="no Ed25519 key"):
        read_checkpoint_key(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "written",
    [
        "{key}",
        "public key  {key}, {print} (this data directory's)",
        "public key  {key}, {print} (named by --key)",
        "public key  {key}, {print}",
        "{key}, {print} (this data directory's)",
        "public_key: {key}",
        "\r\n  {key}\r\n\r\n",
    ],
)
def test_a_public_key_is_read_as_commands_print_it(tmp_path: Path, written: str) -> None:
    """The key alone, the line of `logs verify` with and without its first words, and that of a statement."""
    key = checkpoint_key(tmp_path, entropy=SystemEntropy()).public
    path = tmp_path / "payproxy.pub"
    path.write_text(written.format(key=key, print=fingerprint(key)) + "\n")

    assert read_public_key(path) == key


@pytest.mark.parametrize(
    "written",
    ["{short}", "{key}, SHA256:AAAA (named by --key)", "{key}\n{key}", "private key  {key}", "{key} and more", ""],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, written: str) -> None:
    """Two keys, a line with the fingerprint of another key, or a part of a line."""
    key = checkpoint_key(tmp_path, entropy=SystemEntropy()).public
    path = tmp_path / "payproxy.pub"
    path.write_text(written.format(key=key, short=key[:-4]))

    with pytest.raises(OSError, match="no Ed25519 key; give one in PEM, or the one line"):
        read_public_key(path)
