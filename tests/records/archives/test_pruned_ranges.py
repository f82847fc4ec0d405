from proxy.records.archives.pruned_ranges import joined
from proxy.records.pruned_range import PrunedRange


def stone(first: int, last: int, *, instance: str = "a") -> PrunedRange:
    """Return a stretch."""
    return PrunedRange(instance=instance, first=first, last=last, hash=f"{last}")


def test_stretches_that_follow_on_each_other_are_one() -> None:
    """Of one instance, without a gap; the hash is that of the last record."""
    stones = [stone(6, 9), stone(1, 5), stone(11, 12), stone(13, 13, instance="b"), stone(10, 10)]

    assert joined(stones) == [stone(1, 12), stone(13, 13, instance="b")]
    assert joined([stone(1, 2), stone(4, 5)]) == [stone(1, 2), stone(4, 5)]
    assert joined([]) == []
