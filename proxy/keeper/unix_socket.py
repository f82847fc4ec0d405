"""Checks of Unix socket paths: a killed process leaves its socket file behind."""

import errno
import socket
import stat
from pathlib import Path


def listened_on(path: Path) -> bool:
    """Return whether a process listens on *path*; False if there is nothing or only a dead process's socket.

    Raises FileExistsError if another kind of file is there, and OSError if it can't be examined.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket: move it elsewhere", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            # The accept queue is full: a process listens and is busy.
            return True
    return True
