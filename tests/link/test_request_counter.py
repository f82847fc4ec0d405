"""The number of requests that a worker has started is there after its end, however it ended."""

import os
import signal
import subprocess
import sys

from proxy.link.request_counter import RequestCounter, counter_at

COUNTING = """
import os, signal, sys
from proxy.link.request_counter import counter_at
counter = counter_at(int(sys.argv[1]))
for _ in range(70_000):
    counter[0] += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_is_known_after_a_kill() -> None:
    """With each single one."""
    requests = RequestCounter()
    assert requests.count() == 0

    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(requests.descriptor)], pass_fds=[requests.descriptor], check=False
    )

    assert done.returncode == -signal.SIGKILL
    assert requests.count() == 70_000
    requests.close()


def test_a_worker_that_cuts_it_off_ends_itself_only() -> None:
    """The keeper reads 0."""
    requests = RequestCounter()
    counter = counter_at(os.dup(requests.descriptor))
    counter[0] += 5
    assert requests.count() == 5

    os.ftruncate(requests.descriptor, 0)

    assert requests.count() == 0
    requests.close()
