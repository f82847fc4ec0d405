"""Stretches of the chain, put together from pieces of them."""

from collections.abc import Iterable

from proxy.records.tombstone import Tombstone


def joined(stones: Iterable[Tombstone]) -> list[Tombstone]:
    """Return *stones* with those that follow on each other made one."""
    made: list[Tombstone] = []
    for stone in sorted(stones, key=lambda stone: (stone.instance, stone.first)):
        if made and made[-1].instance == stone.instance and made[-1].last + 1 == stone.first:
            stone = Tombstone(  # noqa: PLW2901 - the longer one takes its place
                instance=stone.instance, first=made.pop().first, last=stone.last, hash=stone.hash
            )
        made.append(stone)
    return made
