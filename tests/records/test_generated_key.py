import os
from pathlib import Path

import pytest

from proxy.records.generated_key import close_own_files
from tests.support.other_user import owned


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("volume", "mode", "group", "closed"),
    [
        (0o2770, 0o660, 54321, True),
        (0o2770, 0o640, 54321, True),
        (0o2770, 0o664, 54321, False),
        (0o2770, 0o660, 54322, False),
        (0o2750, 0o660, 54321, False),
        (0o2770, 0o600, 54321, False),
    ],
)
def test_only_what_the_kubelet_opens_is_closed(
    tmp_path: Path, *, volume: int, mode: int, group: int, closed: bool
) -> None:
    """In root's volume, for its group alone; whatever else is open stays so, and is refused by who reads it."""
    owned(tmp_path, volume, group=54321)
    key, other = tmp_path / "masking.key", tmp_path / "requests.db"
    for path in (key, other):
        path.touch()
        owned(path, mode, group=group)
    (tmp_path / "linked.key").symlink_to(other)

    assert close_own_files(tmp_path) == [key] * closed
    assert key.stat().st_mode & 0o777 == (0o600 if closed else mode)
    assert other.stat().st_mode & 0o777 == mode
