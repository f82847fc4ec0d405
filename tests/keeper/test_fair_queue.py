"""Several sources share a queue: each in its turn, and none has more than its part."""

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
    """A source with many items waits for one of each other source."""
    queue = FairQueue[str](most=10)
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert queue.put(item[0], item)

    assert len(queue) == 6
    assert taken(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0


def test_a_source_has_its_part() -> None:
    """One that is full does not take another's place."""
    queue = FairQueue[str](most=2)

    assert [queue.put("a", str(number)) for number in range(3)] == [True, True, False]
    assert queue.put("b", "3")
    queue.take()
    assert queue.put("a", "4")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers())))
def test_nothing_is_lost_or_overtaken(given_: list[tuple[str, int]]) -> None:
    """Each source's items come in their order, and no source waits for two of another."""
    queue = FairQueue[tuple[str, int]](most=1000)
    for source, value in given_:
        queue.put(source, (source, value))
    found = []
    while (item := queue.take()) is not None:
        found.append(item)

    for source in "abc":
        assert [one for one in found if one[0] == source] == [one for one in given_ if one[0] == source]
    left = Counter(source for source, _ in given_)
    for before, after in pairwise(found):
        left[before[0]] -= 1
        if before[0] == after[0]:
            assert all(count <= 0 for source, count in left.items() if source != after[0])
