"""Pruned ranges of the chain, as a record states them: each with the hash of its last record."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy.records.chain import link_of
from proxy.records.chain_id import chain_in
from proxy.records.checkpoint_key import Checkpoint, is_signed
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

    def contains(self, claim: Checkpoint) -> bool:
        """Return whether the record of *claim* is in it, and has its instance or (after a rename) its hash."""
        return self.first <= claim.sequence <= self.last and (
            self.instance == claim.instance or self.hash == claim.hash
        )


def ranges_of(lines: Iterable[bytes]) -> list[PrunedRange]:
    """Return the ranges that *lines*, the records about to be deleted, cover; they may be in any order."""
    ranges = []
    for line in lines:
        if link := link_of(line):
            instance, chain = _whose(line)
            number = link.sequence
            ranges.append(PrunedRange(instance=instance, chain=chain, first=number, last=number, hash=link.hash))
    return joined(ranges)


def joined(ranges: Iterable[PrunedRange]) -> list[PrunedRange]:
    """Return *ranges* with adjacent ones of the same chain joined, and without duplicates."""
    made: list[PrunedRange] = []
    for one in sorted(set(ranges), key=lambda one: (one.chain, one.instance, one.first)):
        if (
            made
            and (last := made[-1]).last + 1 == one.first
            and (last.chain, last.instance) == (one.chain, one.instance)
        ):
            made[-1] = replace(one, first=last.first)
        else:
            made.append(one)
    return made


def signed_bytes(ranges: Iterable[PrunedRange]) -> bytes:
    """Return the bytes that the signature over the pruned *ranges* covers."""
    rows = [f"{one.chain}\n{one.instance}\n{one.first}\n{one.last}\n{one.hash}\n" for one in ranges]
    return "".join(["payproxy pruned 1\n", *rows]).encode(errors="backslashreplace")


def ranges_in(record: dict[str, Any]) -> Iterator[PrunedRange]:
    """Yield the pruned ranges that *record* states; malformed ones are skipped."""
    ranges = record.get("pruned") if record.get("kind") == "operation" else None
    for one in ranges if isinstance(ranges, list) else ():
        if not isinstance(one, dict):
            continue
        instance, first, last, hash_ = (one.get(name) for name in ("instance", "first", "last", "hash"))
        if isinstance(instance, str) and isinstance(first, int) and isinstance(last, int) and isinstance(hash_, str):
            yield PrunedRange(instance=instance, chain=chain_in(one.get("chain")), first=first, last=last, hash=hash_)


def signer_of(record: dict[str, Any], ranges: Iterable[PrunedRange]) -> str:
    """Return the public key that validly signed *ranges* in their *record*, "" if none did."""
    by = record.get("pruned_by")
    by = by if isinstance(by, dict) else {}
    key, signature = by.get("public_key"), by.get("signature")
    return str(key) if key and is_signed(signed_bytes(ranges), public_key=key, signature=signature) else ""


def cover(ranges: Sequence[PrunedRange], first: int, last: int, *, hash_: str) -> bool:
    """Return whether *ranges* together cover records *first* to *last*; *hash_* is that of the last one ("": any)."""
    at = first
    for one in sorted(ranges, key=lambda one: one.first):
        if one.first <= at <= one.last:
            if one.last == last and one.hash and hash_ and one.hash != hash_:
                continue
            at = one.last + 1
    return at > last


def _whose(line: bytes) -> tuple[str, str]:
    """Return instance and chain of the record *line*."""
    try:
        record = decode(line)
        return str(record["instance"]), chain_in(record.get("chain"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""
