from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.entropy import SystemEntropy
from proxy.records.masking_key import masking_key, read_masking_keys, share_masking_key


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """32 bytes in a file of mode 0600, and nothing beside it."""
    key = masking_key(tmp_path, entropy=SystemEntropy())

    assert len(key) == 32
    assert masking_key(tmp_path, entropy=SystemEntropy()) == key
    assert [path.name for path in tmp_path.iterdir()] == ["masking.key"]
    assert (tmp_path / "masking.key").stat().st_mode & 0o777 == 0o600


def test_all_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    """Whoever comes second reads the first one's file."""
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: masking_key(tmp_path, entropy=SystemEntropy()), range(64)))

    assert len(keys) == 1


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    """Another key would make earlier values unfindable, so somebody has to decide."""
    (tmp_path / "masking.key").touch(mode=0o600)
    (tmp_path / "masking.key").write_bytes(b"short")

    with pytest.raises(OSError, match="does not hold 32 bytes"):
        masking_key(tmp_path, entropy=SystemEntropy())

    assert (tmp_path / "masking.key").read_bytes() == b"short"


def test_what_share_a_secret_mask_alike_and_find_what_was_masked_before(tmp_path: Path) -> None:
    """The newest secret counts; keys of older ones, and each directory's own, are kept; there is a way back."""
    ours, theirs = tmp_path / "a", tmp_path / "b"
    for folder in (ours, theirs):
        folder.mkdir()
    own = masking_key(ours, entropy=SystemEntropy())

    def share(folder: Path, *secrets: bytes) -> bytes:
        share_masking_key(folder, secrets, environment="mock", entropy=SystemEntropy())
        return masking_key(folder, entropy=SystemEntropy())

    first = share(ours, b"s" * 32)
    assert first == share(theirs, b"s" * 32) != own
    assert read_masking_keys(ours) == [first, own]
    second = share(ours, b"t" * 32, b"s" * 32)
    assert second == share(theirs, b"t" * 32) != first
    assert read_masking_keys(ours) == [second, first, own]
    assert (ours / "masking-shared.key").stat().st_mode & 0o777 == 0o600
    assert share(ours) == own
    assert read_masking_keys(ours) == [own, second, first]
    assert share(tmp_path) == masking_key(tmp_path, entropy=SystemEntropy())
    assert not (tmp_path / "masking-shared.key").exists()


def test_another_environment_masks_otherwise(tmp_path: Path) -> None:
    """Also if somebody uses one secret for both."""
    share_masking_key(tmp_path, [b"s" * 32], environment="mock", entropy=SystemEntropy())
    first = masking_key(tmp_path, entropy=SystemEntropy())
    share_masking_key(tmp_path, [b"s" * 32], environment="production", entropy=SystemEntropy())

    assert masking_key(tmp_path, entropy=SystemEntropy()) != first
