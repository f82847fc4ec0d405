"""The number of requests that a worker has begun is there after its end, however it ended."""

import os
import signal
import subprocess
import sys

from proxy.link.begun_requests import BegunRequests, counter_at

COUNTING = """
import os, signal, sys
from proxy.link.begun_requests import counter_at
counter = counter_at(int(sys.argv[1]))
for _ in range(70_000):
    counter[0] += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_is_known_after_a_kill() -> None:
    """With each single one."""
    begun = BegunRequests()
    assert begun.count() == 0

    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(begun.descriptor)], pass_fds=[begun.descriptor], check=False
    )

    assert done.returncode == -signal.SIGKILL
    assert begun.count() == 70_000
    begun.close()


def test_a_worker_that_cuts_it_off_ends_itself_only() -> None:
    """The keeper reads 0."""
    begun = BegunRequests()
    counter = counter_at(os.dup(begun.descriptor))
    counter[0] += 5
    assert begun.count() == 5

    os.ftruncate(begun.descriptor, 0)

    assert begun.count() == 0
    begun.close()
