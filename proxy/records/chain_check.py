"""One chain in a copy of the log: whether its records are unchanged, complete and in order, and what they state."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.records.chain import GENESIS, ChainLink
from proxy.records.log_finding import FaultKind, Findings, Location
from proxy.records.pruned_range import PrunedRange, cover

# Bytes kept of each hash: 16 MB for a million records.
_KEPT = 16
_ABSENT = bytes(_KEPT)
# The record exists, but its hash can't be trusted.
_UNSURE = b"\xff" * _KEPT
# A larger jump is a forged number, not a gap; storing such a gap would take gigabytes.
_LARGEST_GAP = 50_000_000
_NO_RUN = (0, 0, Location(0, ""))


@dataclass(slots=True)
class KeyUse:
    """The first checkpoint signed with a key, and the number of checkpoints."""

    place: Location
    sequence: int
    checkpoints: int = 0


@dataclass(slots=True, kw_only=True)
class _Gap:
    """Missing numbers, noticed at the next record, at *place*; *before* is the `previous_hash` of that record."""

    first: int
    last: int
    place: Location
    before: str
    found: int = 0
    found_at: Location | None = None
    before_start: bool = False


class ChainCheck:
    """Checks the links of one chain in file order, and holds what its records state; *name* is the first instance name.

    `ids` are those of its data directory, absent in records before 2026-11-28. `keys` signed its checkpoints; its
    starts and the anchors name the `declared` ones. `own`: it is this data directory's. `trusted`: all its keys are.
    `breaks` counts the places where the chain is broken.
    """

    def __init__(self, name: str, findings: Findings) -> None:
        self.name = name
        self.names: dict[str, None] = {}
        self.ids: dict[str, None] = {}
        self.keys: dict[str, KeyUse] = {}
        self.declared: set[str] = set()
        self.config_digest = ""  # that of the first signed checkpoint
        self.signed_up_to = 0
        self.stopped = self.own = self.trusted = False
        self._unclean: list[tuple[int, Location, range]] = []
        self.after_stop = 0  # up to the last record: how many in a row may follow a stop
        # Pruned ranges not followed by a checkpoint yet, each with the number of breaks before it.
        self.unsigned: dict[PrunedRange, int] = {}
        self.place = Location(0, "")
        self.records = self.first = self.last = self.repeated = self.breaks = 0
        self._pruned: Sequence[PrunedRange] = ()
        self._refused: Sequence[PrunedRange] = ()
        self._findings = findings
        self._late: _Gap | None = None
        self._hash = ""
        self._known = bytearray()
        self._gaps: list[_Gap] = []
        self._repeat = _NO_RUN

    def __repr__(self) -> str:
        return f"<ChainCheck {self.name} {self.records} records, {self.first} to {self.last}>"

    def take(self, link: ChainLink, place: Location) -> bool:
        """Check the next record; return whether it is new and intact, so that its content counts."""
        if not link.intact:
            if self.first <= link.sequence <= self.last and self._kept(link.sequence) != _ABSENT:
                self._changed(link.sequence, place)
            else:
                self.spoiled(place)
            return False
        if not self.records:
            self._begin(link, place)
        elif link.sequence == self.last + 1:
            if self._hash and link.previous_hash != self._hash:
                self._replaced(link.sequence, place)
        elif link.sequence > self.last + 1:
            self._jump(link, place)
        else:
            return self._go_back(link, place)
        self._keep(link.sequence, link.hash)
        return True

    def precedes(self, link: ChainLink) -> bool:
        """Return whether *link* continues this chain; an unknown last hash matches any."""
        return link.sequence == self.last + 1 and self._hash in {"", link.previous_hash}

    def borders(self, pruned: PrunedRange) -> bool:
        """Return whether *pruned* ends where a gap ends, with the hash that the record after the gap names."""
        gaps = self._gaps if self._late is None else [*self._gaps, self._late]
        return any((gap.last, gap.before) == (pruned.last, pruned.hash) for gap in gaps)

    def started(self) -> None:
        """Mark the gap before the start record just taken: a sink that was removed and added again continues so."""
        if self._gaps and self._gaps[-1].last == self.last - 1:
            self._gaps[-1].before_start = True

    def unclean(self, start: int) -> None:
        """Note that the record *start*, just taken, follows no stop; `finish` reports it unless that was pruned."""
        self._unclean.append((start, self.place, range(start - 1 - self.after_stop, start)))

    def spoiled(self, place: Location) -> None:
        """Count an unreadable line as the next record."""
        number = self.last + 1
        self._changed(number, place)
        self._keep(number, "")

    def remembers(self, sequence: int, hash_: str) -> bool | None:
        """Return whether record *sequence* has *hash_*; None if it is absent or its hash is uncertain."""
        kept = self._kept(sequence)
        return None if kept in {_ABSENT, _UNSURE} else kept == bytes.fromhex(hash_)[:_KEPT]

    def finish(self, *, pruned: Sequence[PrunedRange], refused: Sequence[PrunedRange]) -> None:
        """Report the faults that show only at the end: numbers that never came, and numbers that came late.

        *pruned* are the ranges that count, *refused* those without a valid signer.
        """
        self._pruned, self._refused = pruned, refused
        self._end_repeat()
        late, self._late = self._late, None
        if late is not None and not cover(pruned, late.first, late.last, hash_=late.before):
            what = f"the first record here is {late.last + 1}: what came before is not in these files"
            self.warning(FaultKind.BEGINS_LATE, late.place, late.last + 1, what)
        for gap in self._gaps:
            if gap.found:
                what = f"{_numbers(gap.first, gap.last)} should come before this one, and comes at {gap.found_at}"
                self.error(FaultKind.REORDERED, gap.place, gap.first, what)
            for first, last in self._missing(gap):
                if not cover(pruned, first, last, hash_=gap.before if last == gap.last else ""):
                    what = f"{_numbers(first, last)} {'is' if first == last else 'are'} missing"
                    if gap.before_start:
                        what += ", up to a start: removed, or this sink was not configured then and other copies have "
                        what += "it" if first == last else "them"
                    what += self.pruned_by_nobody(first, last)
                    self.error(FaultKind.MISSING, gap.place, first, what)
        self._gaps.clear()
        for start, place, stops in self._unclean:
            if not self.pruned_in(stops):
                what = f"the instance started before record {start} without a clean stop: it was killed, or what it"
                self.warning(FaultKind.UNCLEAN, place, start, f"{what} recorded last is missing")
        self._unclean.clear()

    def pruned_in(self, numbers: Iterable[int]) -> bool:
        """Return whether one of the records *numbers* was pruned; call it after `finish`."""
        return any(cover(self._pruned, number, number, hash_="") for number in numbers)

    def pruned_by_nobody(self, first: int, last: int) -> str:
        """Return text to add for missing records *first* to *last* if only a range without valid signer covers them."""
        if cover([*self._pruned, *self._refused], first, last, hash_=""):
            return "; a record says that they were pruned, but no key of that chain, or that is trusted, signed it"
        return ""

    def error(self, kind: FaultKind, place: Location, sequence: int, what: str) -> None:
        """Report an error about record *sequence* of this chain."""
        self._findings.error(kind, place, self.name, sequence, what)

    def warning(self, kind: FaultKind, place: Location, sequence: int, what: str) -> None:
        """Report a warning about record *sequence* of this chain."""
        self._findings.warning(kind, place, self.name, sequence, what)

    def _missing(self, gap: _Gap) -> Iterator[tuple[int, int]]:
        """Yield first and last number of each range of *gap* that never came."""
        if not gap.found:
            yield gap.first, gap.last
            return
        first = 0
        for number in range(gap.first, gap.last + 2):
            missing = number <= gap.last and self._kept(number) == _ABSENT
            if missing and not first:
                first = number
            elif not missing and first:
                yield first, number - 1
                first = 0

    def _begin(self, link: ChainLink, place: Location) -> None:
        self.first = link.sequence
        if link.sequence > 1:
            self._late = _Gap(first=1, last=link.sequence - 1, place=place, before=link.previous_hash)
        elif link.previous_hash != GENESIS:
            self._replaced(1, place)

    def _jump(self, link: ChainLink, place: Location) -> None:
        self.breaks += 1
        if link.sequence - self.last > _LARGEST_GAP:
            what = f"record {link.sequence} comes where {self.last + 1} is due"
            self.error(FaultKind.MISSING, place, self.last + 1, what)
            self._restart(link.sequence)
            return
        self._gaps.append(_Gap(first=self.last + 1, last=link.sequence - 1, place=place, before=link.previous_hash))

    def _go_back(self, link: ChainLink, place: Location) -> bool:
        """Take a record whose number is not after the last one; return whether it is new."""
        sequence = link.sequence
        kept = self._kept(sequence)
        if sequence < self.first:
            what = f"record {sequence} comes after {self.last}"
            self.error(FaultKind.REORDERED, place, sequence, what)
            return False
        if kept == _ABSENT:
            self.breaks += 1
            self._fill(link, place)
            return True
        if kept == _UNSURE or kept == bytes.fromhex(link.hash)[:_KEPT]:
            self._repeated(sequence, place)
            return False
        self.breaks += 1
        if link.previous_hash == GENESIS:
            what = f"the chain begins anew after record {self.last}: was the data directory removed?"
            self.error(FaultKind.BEGUN_ANEW, place, sequence, what)
            self.finish(pruned=(), refused=())
            self._restart(1)
        else:
            what = f"this is another record {sequence} than the one before"
            self.error(FaultKind.FORKED, place, sequence, what)
            del self._known[(sequence - self.first) * _KEPT :]
        self._keep(sequence, link.hash)
        return True

    def _fill(self, link: ChainLink, place: Location) -> None:
        gap = next(gap for gap in self._gaps if gap.first <= link.sequence <= gap.last)
        gap.found += 1
        gap.found_at = gap.found_at or place
        before = self._kept(link.sequence - 1)
        follows = before in {_ABSENT, _UNSURE} or before == bytes.fromhex(link.previous_hash)[:_KEPT]
        if not follows or (link.sequence == gap.last and link.hash != gap.before):
            self._replaced(link.sequence, place)
        at = (link.sequence - self.first) * _KEPT
        self._known[at : at + _KEPT] = bytes.fromhex(link.hash)[:_KEPT]
        self.records += 1

    def _keep(self, sequence: int, hash_: str) -> None:
        self._end_repeat()
        if not self.records:
            self.first = sequence
        self.records += 1
        self.last = sequence
        self._hash = hash_
        missing = (sequence - self.first) * _KEPT - len(self._known)
        self._known += bytes(max(0, missing)) + (bytes.fromhex(hash_)[:_KEPT] if hash_ else _UNSURE)

    def _kept(self, sequence: int) -> bytes:
        at = (sequence - self.first) * _KEPT
        return bytes(self._known[at : at + _KEPT]) or _ABSENT if at >= 0 else _ABSENT

    def _restart(self, first: int) -> None:
        self.first = first
        self._known.clear()
        self._gaps.clear()
        self._hash = ""

    def _repeated(self, sequence: int, place: Location) -> None:
        self.repeated += 1
        first, last, where = self._repeat
        if first and sequence == last + 1:
            self._repeat = (first, sequence, where)
            return
        self._end_repeat()
        self._repeat = (sequence, sequence, place)

    def _end_repeat(self) -> None:
        """Report a run of repeated records as a warning: sinks are promised at-least-once delivery."""
        first, last, place = self._repeat
        if first:
            what = f"{_numbers(first, last)} {'comes' if first == last else 'come'} again, with the same bytes"
            self.warning(FaultKind.DUPLICATED, place, first, what)
            self._repeat = _NO_RUN

    def _changed(self, sequence: int, place: Location) -> None:
        self.breaks += 1
        what = f"record {sequence} was changed: its bytes don't give its hash"
        self.error(FaultKind.CHANGED, place, sequence, what)

    def _replaced(self, sequence: int, place: Location) -> None:
        self.breaks += 1
        before = f"record {sequence - 1}" if sequence > 1 else "the beginning"
        what = f"record {sequence} does not follow {before}: one of the two was replaced"
        self.error(FaultKind.REPLACED, place, sequence, what)


def _numbers(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"
