"""Callers share a queue: each in its turn, its workers in theirs, and no worker has more than its part."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.fair_queue import FairQueue


def taken(queue: FairQueue[str]) -> list[str]:
    """Return all items in the order in which they are taken."""
    found = []
    while (item := queue.take()) is not None:
        found.append(item)
    return found


def test_one_after_the_other() -> None:
    """A caller with many items waits for one of each other caller, on how many workers ever."""
    queue = FairQueue[str](most=10)
    for number, item in enumerate(("a1", "a2", "a3", "b1", "c1", "b2")):
        assert queue.put(item, caller=item[0], worker=f"w{number}")

    assert len(queue) == 6
    assert taken(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0


def test_the_workers_of_a_caller_take_turns() -> None:
    """One that makes up requests of a caller does not push aside those that the caller has sent to another."""
    queue = FairQueue[str](most=10)
    for item in ("x1", "x2", "x3", "y1"):
        assert queue.put(item, caller="a", worker=item[0])

    assert taken(queue) == ["x1", "y1", "x2", "x3"]


def test_a_worker_has_its_part() -> None:
    """One that is full does not take another's place."""
    queue = FairQueue[str](most=2)

    assert [queue.put(one, caller=one, worker="x") for one in "abc"] == [True, True, False]
    assert queue.put("d", caller="a", worker="y")
    queue.take()
    assert queue.put("e", caller="c", worker="x")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers())))
def test_nothing_is_lost_or_overtaken(given_: list[tuple[str, str, int]]) -> None:
    """Items of a caller's worker come in their order, and no caller waits for two of another."""
    queue = FairQueue[tuple[str, str, int]](most=1000)
    for item in given_:
        queue.put(item, caller=item[0], worker=item[1])
    found = []
    while (item_ := queue.take()) is not None:
        found.append(item_)

    for source in ((caller, worker) for caller in "abc" for worker in "xy"):
        assert [one for one in found if one[:2] == source] == [one for one in given_ if one[:2] == source]
    left = Counter(caller for caller, _, _ in given_)
    for before, after in pairwise(found):
        left[before[0]] -= 1
        if before[0] == after[0]:
            assert all(count <= 0 for caller, count in left.items() if caller != after[0])
