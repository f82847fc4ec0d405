"""Protects keys, secrets and tokens in memory from other processes (prctl(2), Linux)."""

import ctypes
import os
import resource

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9  # without the module signal: a probe imports next to nothing
_PR_SET_DUMPABLE = 4
# Python's default TLS context, and with it redis-py, asyncpg and the admin listener, writes session keys to this file.
_KEY_LOG = "SSLKEYLOGFILE"


def protect_memory() -> None:
    """Exclude this process from core dumps, and hide its memory and environment from the user's other processes.

    $SSLKEYLOGFILE is forgotten too: session keys of TLS connections stay in memory. Call this before the first secret
    is read. A process that is not dumpable can't be traced, and its /proc/PID/mem and environ belong to root; no core
    goes to a handler like systemd-coredump, which RLIMIT_CORE alone would not prevent.
    execve makes a child dumpable again: workers call this themselves.
    """
    os.environ.pop(_KEY_LOG, None)
    try:  # noqa: SIM105 - contextlib would cost a probe a quarter of its CPU
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass
    _prctl(_PR_SET_DUMPABLE, 0)


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _prctl(option: int, value: int) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # missing on other systems, where only commands run
        prctl(option, value, 0, 0, 0)
