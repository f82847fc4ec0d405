"""Stretches of the chain, put together from pieces of them."""

from collections.abc import Iterable
from dataclasses import replace

from proxy.records.tombstone import Tombstone


def joined(stones: Iterable[Tombstone]) -> list[Tombstone]:
    """Return *stones* with those that follow on each other made one."""
    made: list[Tombstone] = []
    for stone in sorted(stones, key=lambda stone: (stone.chain, stone.instance, stone.first)):
        if made and _same_chain(made[-1], stone) and made[-1].last + 1 == stone.first:
            stone = replace(stone, first=made.pop().first)  # noqa: PLW2901 - the longer one takes its place
        made.append(stone)
    return made


def _same_chain(one: Tombstone, other: Tombstone) -> bool:
    return (one.chain, one.instance) == (other.chain, other.instance)
