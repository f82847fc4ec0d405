import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from proxy.records.priority import Courtesy, give_way, step_back


def test_a_thread_gives_way_and_no_other() -> None:
    """Scheduling class and nice value are a thread's own."""

    def ours() -> tuple[int, int]:
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = ours()
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        assert thread.submit(ours).result() == (os.SCHED_BATCH, before[1])
    with ThreadPoolExecutor(1, initializer=step_back) as thread:
        assert thread.submit(ours).result() == (before[0], max(before[1], 10))

    assert ours() == before


def test_a_thread_gives_way_while_much_waits_for_it() -> None:
    """More than 3000 a second for a quarter of a second; with less to do everybody is served at once."""

    def classes() -> list[int]:
        courtesy = Courtesy()
        courtesy.did(1, now=100.0)
        found = []
        for second in range(100, 104):
            for step in range(1, 1001):
                courtesy.did(2 if second == 102 else 4, now=second + step / 1000)
            found.append(os.sched_getscheduler(0))
        return found

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(classes).result()

    assert found == [os.SCHED_BATCH, os.SCHED_BATCH, os.SCHED_OTHER, os.SCHED_BATCH]


def test_a_process_that_is_nicer_already_stays_so() -> None:
    """With systemd's `Nice=15` an ordinary user may not go back to 10: no reason to do without the thread."""
    code = (
        "import os; from proxy.records.priority import step_back; os.setpriority(os.PRIO_PROCESS, 0, 15);"
        "os.geteuid() or os.setuid(65534); step_back(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (run.stdout, run.returncode) == ("15\n", 0)
