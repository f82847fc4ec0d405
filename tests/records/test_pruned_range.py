from proxy.records.pruned_range import PrunedRange, joined


def pruned(first: int, last: int, *, instance: str = "a") -> PrunedRange:
    """Return a range."""
    return PrunedRange(instance=instance, first=first, last=last, hash=f"{last}")


def test_ranges_that_follow_on_each_other_are_one() -> None:
    """Of one instance, without a gap; the hash is that of the last record."""
    ranges = [pruned(6, 9), pruned(1, 5), pruned(11, 12), pruned(13, 13, instance="b"), pruned(10, 10)]

    assert joined(ranges) == [pruned(1, 12), pruned(13, 13, instance="b")]
    assert joined([pruned(1, 2), pruned(4, 5)]) == [pruned(1, 2), pruned(4, 5)]
    assert joined([]) == []
