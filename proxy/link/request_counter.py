"""How many requests a worker has begun: a number in memory that outlives its process, so that the log misses none.

A message would come too late from a worker that is killed, and a file would let a disk that hangs stop its loop.
"""

import mmap
import os
import sys

_BYTES = 8


class RequestCounter:
    """The keeper's end: *descriptor* is what the worker inherits. Raises OSError if there is no memory for it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("request counter")
        os.ftruncate(self.descriptor, _BYTES)

    def count(self) -> int:
        """Return the number, also after the worker's end; 0 if a worker that was taken over has cut it off."""
        # Not by a mapping: reading one that was cut off would end the keeper by a signal.
        return int.from_bytes(os.pread(self.descriptor, _BYTES, 0), sys.byteorder)

    def close(self) -> None:
        """Release the memory."""
        os.close(self.descriptor)

    def __repr__(self) -> str:
        return f"<RequestCounter {self.descriptor}>"


def counter_at(descriptor: int) -> memoryview:
    """Return the worker's end, whose only item is the number, and close *descriptor*."""
    try:
        return memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
    finally:
        os.close(descriptor)


def counter_alone() -> memoryview:
    """Return a number that no other process sees."""
    return memoryview(bytearray(_BYTES)).cast("Q")
