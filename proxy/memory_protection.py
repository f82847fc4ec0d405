"""Keys, secrets and tokens stay in the memory of the process that needs them (prctl(2), Linux)."""

import contextlib
import ctypes
import resource

_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """Keep this process out of core dumps, and its memory and environment from other processes of the same user.

    To be called before the first secret is read. Not dumpable, it can't be traced, and /proc/PID/mem and environ are
    root's; nor does a core go to a handler as systemd-coredump, which RLIMIT_CORE alone would not keep it from. execve
    makes a child dumpable again: workers call this for themselves.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # other systems have none, where only commands run
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
