"""Makes the keeper return memory to the system after a large allocation is freed."""

import ctypes

# mallopt(3), glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Above the usual read and write sizes (256 KB), below blocks that are used once and freed.
_LARGE_BYTES = 1024 * 1024


def return_large_blocks() -> None:
    """Return freed blocks of 1 MB and more to the system, in every thread.

    glibc raises its threshold to the largest block ever freed. A credential's fingerprint takes 16 MB (scrypt), and the
    second one, allocated in a thread, would stay in that thread's heap forever: a fifth of the idle keeper's memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has no mallopt and returns blocks by itself
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
