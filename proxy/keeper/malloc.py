"""How the keeper's memory comes back after a large use of it."""

import ctypes

# mallopt(3), glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Above what is read or written at once as a rule (256 KB), below what is used once and freed.
_LARGE_BYTES = 1024 * 1024


def return_large_blocks() -> None:
    """Let every freed block of a megabyte go back to the system, from whichever thread.

    glibc raises its threshold to the largest block ever freed. A credential's fingerprint takes 16 MB (scrypt), and
    the second one, made in a thread, would stay in that thread's heap for good: a fifth of the idle keeper.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none, and does so by itself
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
