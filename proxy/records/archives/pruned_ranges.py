"""Join adjacent ranges of pruned records."""

from collections.abc import Iterable
from dataclasses import replace

from proxy.records.pruned_range import PrunedRange


def joined(stones: Iterable[PrunedRange]) -> list[PrunedRange]:
    """Return *stones* with adjacent ranges of the same chain joined."""
    made: list[PrunedRange] = []
    for stone in sorted(stones, key=lambda stone: (stone.chain, stone.instance, stone.first)):
        if made and _same_chain(made[-1], stone) and made[-1].last + 1 == stone.first:
            stone = replace(stone, first=made.pop().first)  # noqa: PLW2901 - the joined range replaces both
        made.append(stone)
    return made


def _same_chain(one: PrunedRange, other: PrunedRange) -> bool:
    return (one.chain, one.instance) == (other.chain, other.instance)
