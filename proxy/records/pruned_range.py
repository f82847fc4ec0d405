"""Pruned ranges of the chain, as a record states them: each with the hash of its last record."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.records.chain import link_of
from proxy.records.chain_id import chain_in
from proxy.records.checkpoint_key import is_signed
from proxy.records.sinks.row import decode


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRange:
    """Records *first* to *last* of *instance* were pruned; *hash* is that of the last one, "" if unknown.

    *chain* is the id of their data directory, "" for records without it.
    """

    instance: str
    first: int
    last: int
    hash: str = ""
    chain: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is in a record."""
        chain = {"chain": self.chain} if self.chain else {}
        return {"instance": self.instance, **chain, "first": self.first, "last": self.last, "hash": self.hash}


def tombstones_of(lines: Iterable[bytes]) -> list[PrunedRange]:
    """Return the tombstones for *lines*, the records about to be deleted, in any order."""
    places: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line in lines:
        link = link_of(line)
        if link is not None:
            places.setdefault(_whose(line), []).append((link.sequence, link.hash))
    return [stone for whose, found in places.items() for stone in _stretches(*whose, sorted(found))]


def signed_bytes(stones: Iterable[PrunedRange]) -> bytes:
    """Return the bytes that the signature over the pruned *stones* covers."""
    rows = [f"{stone.chain}\n{stone.instance}\n{stone.first}\n{stone.last}\n{stone.hash}\n" for stone in stones]
    return "".join(["payproxy pruned 1\n", *rows]).encode(errors="backslashreplace")


def tombstones_in(record: dict[str, Any]) -> Iterator[PrunedRange]:
    """Yield the pruned ranges that *record* states; malformed ones are skipped."""
    stones = record.get("pruned") if record.get("kind") == "operation" else None
    for stone in stones if isinstance(stones, list) else ():
        if not isinstance(stone, dict):
            continue
        instance, first, last, hash_ = (stone.get(name) for name in ("instance", "first", "last", "hash"))
        if isinstance(instance, str) and isinstance(first, int) and isinstance(last, int) and isinstance(hash_, str):
            chain = chain_in(stone.get("chain"))
            yield PrunedRange(instance=instance, chain=chain, first=first, last=last, hash=hash_)


def signer_of(record: dict[str, Any], stones: Iterable[PrunedRange]) -> str:
    """Return the public key that validly signed *stones* in their *record*, "" if none did."""
    by = record.get("pruned_by")
    by = by if isinstance(by, dict) else {}
    key, signature = by.get("public_key"), by.get("signature")
    return str(key) if key and is_signed(signed_bytes(stones), public_key=key, signature=signature) else ""


def cover(stones: Sequence[PrunedRange], first: int, last: int, *, hash_: str) -> bool:
    """Return whether *stones* together cover records *first* to *last*; *hash_* is that of the last one ("": any)."""
    at = first
    for stone in sorted(stones, key=lambda stone: stone.first):
        if stone.first <= at <= stone.last:
            if stone.last == last and stone.hash and hash_ and stone.hash != hash_:
                continue
            at = stone.last + 1
    return at > last


def buried(stones: Iterable[PrunedRange], *, instance: str, sequence: int, hash_: str) -> bool:
    """Return whether one of *stones* covers record *sequence*, and has its *instance* or (after a rename) *hash_*."""
    return any(
        stone.first <= sequence <= stone.last and (stone.instance == instance or stone.hash == hash_)
        for stone in stones
    )


def _whose(line: bytes) -> tuple[str, str]:
    """Return instance and chain of the record *line*."""
    try:
        record = decode(line)
        return str(record["instance"]), chain_in(record.get("chain"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _stretches(instance: str, chain: str, places: list[tuple[int, str]]) -> Iterator[PrunedRange]:
    first = previous = places[0][0]
    hash_ = places[0][1]
    for sequence, own in places[1:]:
        if sequence > previous + 1:
            yield PrunedRange(instance=instance, chain=chain, first=first, last=previous, hash=hash_)
            first = sequence
        previous, hash_ = sequence, own
    yield PrunedRange(instance=instance, chain=chain, first=first, last=previous, hash=hash_)
