"""What the kernel says about another process."""

import os
import resource
from pathlib import Path

import pytest

Limits = tuple[int, int]


def descriptors(pid: int) -> int:
    """Return how many file descriptors *pid* has open; a worker's are hidden from its own user, so that needs root."""
    if os.geteuid() != 0:
        pytest.skip("a worker's descriptors are seen by root alone")
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int) -> int:
    """Return the bytes of memory that *pid* has resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def threads(pid: int) -> int:
    """Return how many threads *pid* has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def processor_seconds(pid: int) -> float:
    """Return the CPU time that *pid* has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def starved_seconds(pid: int) -> float:
    """Return how long the main thread of *pid* was ready to run and waited for a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def descriptor_limits(pid: int) -> Limits:
    """Return the soft and the hard limit of open files of *pid*."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


def limit_descriptors(pid: int, soft: int) -> None:
    """Let *pid* have descriptors with numbers below *soft* only; needs root, as `descriptors` does."""
    if os.geteuid() != 0:
        pytest.skip("the limits of a worker are set by root alone")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, descriptor_limits(pid)[1]))
