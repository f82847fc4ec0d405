from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.entropy import SystemEntropy
from proxy.records.masking_key import masking_key


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
