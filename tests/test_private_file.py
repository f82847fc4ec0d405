import os
import stat
import tempfile
from pathlib import Path

import pytest

from proxy.private_file import FileUnusable, directory_exposed, directory_unusable, exposed, read_key, read_private_file

# Numbers that have no name on any machine.
US, ROOT, OTHER = 54321, 0, 54322


def status(mode: int, owner: int) -> os.stat_result:
    """Return the status of a regular file."""
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 1, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "us", "words"),
    [
        (0o600, US, US, ""),
        (0o400, US, US, ""),
        (0o640, US, US, "chmod 600"),
        (0o604, US, US, "chmod 600"),
        (0o440, ROOT, US, ""),
        (0o640, ROOT, US, ""),
        (0o660, ROOT, US, "fsGroup"),
        (0o444, ROOT, US, "defaultMode 0440"),
        (0o444, ROOT, US, "uid 54321 and mode 0400 of the secret"),
        (0o444, ROOT, ROOT, "mode 0400 of the secret"),
        (0o440, ROOT, ROOT, "chmod 600"),
        (0o600, OTHER, US, "belongs to user 54322, and payproxy runs as"),
        (0o600, OTHER, US, "`chown 54321 oauth.key && chmod 600 oauth.key`"),
        (0o600, OTHER, ROOT, "belongs to"),
    ],
)
def test_whose_file_may_hold_a_secret(mode: int, owner: int, us: int, words: str) -> None:
    """PostgreSQL's rule: ours alone, or root's with at most read for the group where we are not root."""
    fault = exposed(Path("oauth.key"), status(mode, owner), us=us)

    assert (fault is None) == (not words)
    assert words in str(fault or "")


def test_a_fifo_a_device_and_a_directory_are_refused_at_once(tmp_path: Path) -> None:
    """Nobody waits for a writer of a FIFO."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(FileUnusable, match="not a regular file"):
            read_private_file(path)


@pytest.mark.parametrize(
    ("size", "words"), [(15, "must hold"), (16, ""), (4096, ""), (4097, "must hold"), (70000, "larger")]
)
def test_a_key_has_a_length(tmp_path: Path, size: int, words: str) -> None:
    """A final line feed is not counted, and nothing of the key is said."""
    path = tmp_path / "state.key"
    path.touch(mode=0o600)
    path.write_bytes(b"k" * size + b"\n")
    if not words:
        assert read_key(path, fewest=16) == b"k" * size
    else:
        with pytest.raises(FileUnusable) as caught:
            read_key(path, fewest=16)
        assert words in str(caught.value)
        assert "kkk" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "us", "words"),
    [(0o700, 0, ""), (0o755, 0, ""), (0o775, 0, "others may write"), (0o777, 0, "others may write"), (0o700, 1, "")],
)
def test_a_data_directory_in_which_others_may_write(tmp_path: Path, mode: int, us: int, words: str) -> None:
    """Else they could put keys of theirs there; how far *us* is from the owner is said too."""
    tmp_path.chmod(mode)
    owner = tmp_path.stat().st_uid
    fault = directory_exposed(tmp_path, us=owner + us)

    assert (fault is None) == (not words and (us == 0 or owner == ROOT))
    assert words in str(fault or "")


def test_a_data_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ours nor root's."""
    made = tmp_path.stat()
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((made.st_mode, 1, 1, 1, OTHER, 1, 1, 0, 0, 0)))

    assert "belongs to" in str(directory_exposed(tmp_path, us=US))
    assert directory_exposed(tmp_path, us=OTHER) is None


@pytest.mark.parametrize("mode", [0o500, 0o600])
def test_our_own_directory_without_a_right_needs_chmod(mode: int) -> None:
    """It is ours already: chown would change nothing."""
    with tempfile.TemporaryDirectory(prefix="payproxy-") as made:
        path, root = Path(made), os.geteuid() == ROOT
        if root:
            os.chown(path, US, -1)
            os.seteuid(US)
        try:
            path.chmod(mode)
            fault = directory_unusable(path)
            path.chmod(0o700)
            assert directory_unusable(path) is None
        finally:
            if root:
                os.seteuid(ROOT)

    assert fault is not None
    assert f"mode {mode:04o}" in fault.what
    assert fault.fix == f"run `chmod 700 {path}`"
