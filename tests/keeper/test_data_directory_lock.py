import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.keeper.data_directory_lock import DataDirectoryInUse, locked

HOLDER = """
import sys
from pathlib import Path
from proxy.keeper.data_directory_lock import locked
with locked(Path(sys.argv[1])):
    print(flush=True)
    input()
"""


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    """While one holds the directory another is refused; afterwards it is free, and nothing is left in it."""
    with locked(tmp_path), pytest.raises(DataDirectoryInUse, match="another payproxy uses"), locked(tmp_path):
        pass

    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    """After kill -9 the directory is free at once."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(DataDirectoryInUse), locked(tmp_path):
            pass
        child.send_signal(signal.SIGKILL)

    with locked(tmp_path):
        pass


def test_a_worker_does_not_inherit_the_claim(tmp_path: Path) -> None:
    """A process that outlives its keeper does not hold the directory."""
    with locked(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        with locked(tmp_path):
            child.kill()


def test_two_directories_are_two_claims(tmp_path: Path) -> None:
    """Instances with directories of their own do not meet."""
    (tmp_path / "other").mkdir()
    with locked(tmp_path), locked(tmp_path / "other"):
        pass
