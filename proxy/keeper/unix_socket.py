"""Paths of Unix sockets: a killed process leaves its own behind."""

import errno
import socket
import stat
from pathlib import Path


def listened_on(path: Path) -> bool:
    """Return whether a process listens on *path*; False if nothing is there or a killed one left its socket.

    Raises FileExistsError if something else is there, and OSError if it can't be looked at.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "it is in the way and no socket: move it elsewhere", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            # Its queue is full: somebody listens, and is busy.
            return True
    return True
