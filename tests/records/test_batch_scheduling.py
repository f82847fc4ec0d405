import os
from concurrent.futures import ThreadPoolExecutor

from proxy.records.batch_scheduling import BatchScheduling


def test_a_thread_is_scheduled_in_batches_while_much_waits_for_it() -> None:
    """More than 3000 a second for a quarter of a second; with less to do everybody is served at once."""

    def classes() -> list[int]:
        scheduling = BatchScheduling()
        scheduling.count(1, now=100.0)
        found = []
        for second in range(100, 104):
            for step in range(1, 1001):
                scheduling.count(2 if second == 102 else 4, now=second + step / 1000)
            found.append(os.sched_getscheduler(0))
        return found

    before = os.sched_getscheduler(0)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(classes).result()

    assert found == [os.SCHED_BATCH, os.SCHED_BATCH, os.SCHED_OTHER, os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == before
