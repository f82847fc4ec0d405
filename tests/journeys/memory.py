"""Searches the memory of a process, which root may read although it is protected (PR_SET_DUMPABLE, prctl(2))."""

import contextlib
from collections.abc import Iterable
from pathlib import Path


def found_in_memory(pid: int, needles: Iterable[bytes]) -> set[bytes]:
    """Return which of *needles* are in the readable memory of *pid*."""
    wanted, found = set(needles), set[bytes]()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            places, rights, *rest = line.split()
            if not rights.startswith("r") or rest[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            first, last = (int(place, 16) for place in places.split("-"))
            memory.seek(first)
            # A page that went away, or a file's that was never there, has nothing to find.
            with contextlib.suppress(OSError):
                data = memory.read(last - first)
                found |= {needle for needle in wanted - found if needle in data}
    return found
