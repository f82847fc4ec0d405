"""What was seen of the shared stream, counted by minute."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.seen_entries import SeenEntries

# Places in the order of the stream, each with whether this replica wrote it.
ENTRIES = st.lists(st.tuples(st.integers(0, 10 * 60_000), st.booleans()), unique_by=lambda one: one[0]).map(sorted)


@given(ENTRIES, st.data())
def test_an_entry_is_counted_once(entries: list[tuple[int, bool]], data: st.DataObject) -> None:
    """Whether its place is told to who wrote it before or after it was read."""
    seen = SeenEntries()
    told_late = []
    for milliseconds, own in entries:
        place = (milliseconds, 0)
        if own and data.draw(st.booleans()):
            seen.wrote([place])
        elif own:
            told_late.append(place)
        seen.read([place])
    seen.wrote(told_late)

    assert seen.since(0) == len(entries)
    assert seen.since(5) == sum(milliseconds >= 5 * 60_000 for milliseconds, _ in entries)


def test_what_was_written_counts_before_it_is_read() -> None:
    """It may be lost before."""
    seen = SeenEntries()
    seen.wrote([(60_000, 0), (60_000, 1)])
    assert seen.since(1) == 2
    assert seen.copy().since(1) == 2
    seen.forget(2)
    assert seen.since(0) == 0
