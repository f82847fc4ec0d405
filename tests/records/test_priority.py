import os
import threading
from concurrent.futures import ThreadPoolExecutor

from proxy.records.priority import give_way, step_back


def test_a_thread_gives_way_and_no_other() -> None:
    """Scheduling class and nice value are a thread's own."""

    def ours() -> tuple[int, int]:
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = ours()
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        assert thread.submit(ours).result() == (os.SCHED_BATCH, before[1])
    with ThreadPoolExecutor(1, initializer=step_back) as thread:
        assert thread.submit(ours).result() == (before[0], before[1] + 10)

    assert ours() == before
