"""Verify records, as sinks store them, against their chain, their checkpoints, and anchors kept elsewhere."""

from collections.abc import Iterable
from typing import Any

from proxy.records.anchor import Anchor, checkpoint_in, object_in
from proxy.records.chain import Link, link_of
from proxy.records.chain_check import Tell
from proxy.records.chain_id import chain_in
from proxy.records.chains import Chains
from proxy.records.checkpoint_key import Checkpoint, vouches
from proxy.records.delivered import Delivered
from proxy.records.log_finding import Fault, Flaw, Place, Severity
from proxy.records.pruned_range import PrunedRange, buried, cover, signer_of, tombstones_in
from proxy.records.trust import Trust
from proxy.records.verdict import Instance, Signed, Verdict

_NOTHING = Verdict()


class Verifier:
    """Takes lines in file order, then returns its verdict.

    *trusted* are the public keys that must sign checkpoints, none for any; in a *shared* copy, other instances may use
    their own keys. *own_chain* is the id of this data directory. A *running* instance needs no clean stop at the end.
    Pruned records are no flaw if a signed record states the pruning. A *database* loses nothing otherwise, unlike a
    rotated file. *stream* is the verdict on the keeper's stream, which may be ahead. *delivered* is what must be there.
    """

    def __init__(
        self,
        *,
        trusted: Iterable[str] = (),
        shared: bool = False,
        own_chain: str = "",
        anchors: Iterable[Anchor] = (),
        running: bool = False,
        database: bool = False,
        stream: Verdict = _NOTHING,
        delivered: Delivered | None = None,
    ) -> None:
        self._running = running
        self._database = database
        self._stream = stream
        self._delivered = delivered
        self._trust = Trust(trusted, shared=shared, own_chain=own_chain)
        self._shared = shared
        self._anchors = tuple(anchors)
        self._stones = dict(stream.stones)
        self._chains = Chains(self._teller)
        self._flaws: list[tuple[int, Flaw]] = []
        self._lines = 0

    def __repr__(self) -> str:
        return f"<Verifier {self._lines} lines, {len(self._flaws)} flaws>"

    def take(self, line: bytes, where: str) -> None:
        """Check the next *line*, without line feed, at the place *where*."""
        self._lines += 1
        place = Place(self._lines, where)
        link = link_of(line)
        record = object_in(line)
        name, chain = str(record.get("instance", "")), chain_in(record.get("chain"))
        instance = self._chains.of(link, name, chain) if link is not None and record else None
        if link is None or not record or (instance is None and not link.intact):
            self._spoiled(place)
            return
        instance = instance or self._begin(name, chain, place)
        instance.place = place
        began = bool(instance.check.records)
        if instance.check.take(link, place):
            self._chains.note(instance, name, chain)
            self._read(instance, record, link, place, began=began)

    def differs(self, line: bytes, where: str, how: str) -> None:
        """Note that search columns contradict *line*, the next to be taken, or the whole copy if *line* is empty."""
        link, record = link_of(line), object_in(line)
        sequence = link.sequence if link is not None else 0
        what = f"record {sequence} is searched by what it does not say: {how}" if line else how
        place = Place(self._lines + 1, where)
        self._teller(str(record.get("instance", "")))(Fault.SEARCHED, Severity.ERROR, place, sequence, what)

    def cut(self, where: str) -> None:
        """Note a last line without line feed: it was being written, or the file was cut."""
        what = "the last line is not whole: it was being written, or the file was cut"
        self._teller("")(Fault.CUT, Severity.WARNING, Place(self._lines + 1, where), 0, what)

    def finish(self) -> Verdict:
        """Return the verdict."""
        for anchor in self._anchors:
            if instance := self._chains.anchored(anchor.claim):
                instance.declared.add(anchor.public_key)
        self._trust.judge(self._chains.by_name.values(), teller=self._teller)
        for name, instance in self._chains.by_name.items():
            check = instance.check
            for stone in self._stones:
                if self._speaks_of(stone, instance):
                    counts = self._stones[stone] & self._trust.may_prune(instance)
                    (check.tombstones if counts else check.refused).append(stone)
            check.finish()
            if not (instance.stopped or self._running):
                what = (
                    f"record {check.last} is the last, and no clean stop: the instance still runs, was killed,"
                    " or records are missing at the end"
                )
                self._teller(name)(Fault.UNCLEAN, Severity.WARNING, instance.place, check.last, what)
        for anchor in self._anchors:
            self._compare(anchor)
        if self._delivered is None and self._shared and not any(one.own for one in self._chains.by_name.values()):
            what = "no chain here is this data directory's, and whether there was one is not known"
            self._teller("")(Fault.ANCHOR, Severity.WARNING, Place(self._lines + 2, "the keeper's positions"), 0, what)
        if self._delivered is not None and not self._delivered.nothing:
            self._compare_delivered(self._delivered)
        flaws = tuple(flaw for _, flaw in sorted(self._flaws, key=lambda pair: pair[0]))
        return Verdict(flaws=flaws, instances=self._chains.by_name, stones=self._stones)

    def _begin(self, name: str, chain: str, place: Place) -> Instance:
        instance, again = self._chains.begin(name, chain)
        if again:
            what = f"another chain under the name {name} begins here, that of another data directory"
            self._teller(name)(Fault.BEGUN_ANEW, Severity.WARNING, place, 0, what)
        return instance

    def _spoiled(self, place: Place) -> None:
        """Count a line without chain members as the next record if there is only one chain here."""
        if len(self._chains.by_name) == 1:
            next(iter(self._chains.by_name.values())).check.spoiled(place)
        else:
            what = "this is no record, or one that was changed in its first or last bytes"
            self._teller("")(Fault.UNREADABLE, Severity.ERROR, place, 0, what)

    def _read(self, instance: Instance, record: dict[str, Any], link: Link, place: Place, *, began: bool) -> None:
        """Process what an intact record states about the chain itself."""
        event = record.get("event") if record.get("kind") == "lifecycle" else ""
        if event == "checkpoint":
            self._check(instance, record, link, place)
            return
        if event == "start":
            instance.check.started()
            if isinstance(key := record.get("public_key"), str):
                instance.declared.add(key)
        if event == "start" and began and not instance.stopped:
            what = (
                f"the instance started before record {link.sequence} without a clean stop: it was killed, or what it "
                "recorded last is missing"
            )
            self._teller(instance.name)(Fault.UNCLEAN, Severity.WARNING, place, link.sequence, what)
        instance.stopped = event == "stop"
        stones = tuple(tombstones_in(record))
        signer = signer_of(record, stones)
        for stone in stones:
            self._vouch(stone, signer)
            instance.pending[stone] = instance.check.breaks

    def _check(self, instance: Instance, record: dict[str, Any], link: Link, place: Place) -> None:
        """Check a checkpoint: its signature, and that it attests the record before it."""
        claim, key, signature = checkpoint_in(record)
        name = instance.name
        if not vouches(key, signature, claim):
            what = f"record {link.sequence} is a checkpoint with a signature that its key did not make"
            self._teller(name)(Fault.FORGED, Severity.ERROR, place, link.sequence, what)
            return
        if (claim.sequence, claim.hash) != (link.sequence - 1, link.previous_hash):
            what = f"record {link.sequence} is a checkpoint of another chain"
            self._teller(name)(Fault.FORGED, Severity.ERROR, place, link.sequence, what)
            return
        signed = instance.keys.setdefault(key, Signed(place=place, sequence=link.sequence))
        signed.checkpoints += 1
        instance.vouched = claim.sequence
        instance.config_digest = instance.config_digest or str(record.get("config_digest", ""))
        for stone, breaks in instance.pending.items():
            # A signature attests only what precedes it without a gap: else a tombstone could cover its own insertion.
            if breaks == instance.check.breaks:
                self._vouch(stone, key)
        instance.pending.clear()

    def _vouch(self, stone: PrunedRange, key: str) -> None:
        self._stones[stone] = self._stones.get(stone, frozenset()) | ({key} if key else set())

    @staticmethod
    def _speaks_of(stone: PrunedRange, instance: Instance) -> bool:
        if stone.chain and instance.ids:
            return stone.chain in instance.ids or instance.check.borders(stone)
        return stone.instance in instance.names or instance.check.borders(stone)

    def _compare(self, anchor: Anchor) -> None:
        """Compare the chain with what *anchor* attests."""
        claim = anchor.claim
        place = Place(self._lines + 1, anchor.place)
        instance = self._chains.anchored(claim)
        may_prune = self._trust.may_prune(instance, anchor.public_key)
        stones = [stone for stone, keys in self._stones.items() if keys & may_prune]
        pruned = buried(stones, instance=claim.instance, sequence=claim.sequence, hash_=claim.hash)

        def tell(fault: Fault, severity: Severity, what: str) -> None:
            self._teller(claim.instance)(fault, severity, place, claim.sequence, what)

        last = instance.check.last if instance is not None else 0
        # Pruning a month prunes all before it; for a chain that is still here, everything missing must be covered.
        gone = instance is None or cover(stones, last + 1, claim.sequence, hash_=claim.hash)
        if claim.sequence > last and pruned and gone:
            tell(Fault.ANCHOR, Severity.WARNING, f"record {claim.sequence} was pruned, and was not compared")
            return
        if instance is None:
            tell(Fault.MISSING, Severity.ERROR, f"there were {claim.sequence} records at {claim.time}, none is here")
            return
        check = instance.check
        if claim.sequence > last and self._on_its_way(last + 1, claim):
            what = f"records {last + 1} to {claim.sequence} have not come here yet: the stream still has them"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        elif claim.sequence > last:
            what = f"records {check.last + 1} to {claim.sequence} are missing: they were there at {claim.time}"
            tell(Fault.MISSING, Severity.ERROR, what)
        elif claim.sequence < check.first and self._database and not pruned and _same_sinks(anchor, instance):
            # A database that was enabled or replaced since has another configuration.
            what = (
                f"records {claim.sequence} to {check.first - 1} are missing: this database was configured already at"
                f" {claim.time}, and no record says that they were pruned"
            )
            tell(Fault.MISSING, Severity.ERROR, what)
        elif claim.sequence < check.first:
            what = f"record {claim.sequence} comes before all that are here, and was not compared"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        elif check.remembers(claim.sequence, claim.hash) is False:
            what = f"record {claim.sequence} is not the one of {claim.time}: the log was written anew"
            tell(Fault.REWRITTEN, Severity.ERROR, what)
        if instance.keys and anchor.public_key not in instance.keys:
            tell(Fault.KEY, Severity.WARNING, f"the anchor is by another key, {anchor.public_key}")

    def _compare_delivered(self, claim: Delivered) -> None:
        """Compare the chain with what the keeper knows this copy has received."""
        instance = self._chains.delivered(claim, shared=self._shared)
        name = instance.name if instance is not None else ""
        place = Place(self._lines + 2, "the keeper's positions")
        stones = [stone for stone, keys in self._stones.items() if keys & self._trust.may_prune(instance)]

        def tell(fault: Fault, severity: Severity, what: str) -> None:
            self._teller(name)(fault, severity, place, claim.last, what)

        check = instance.check if instance is not None else None
        if check is not None and check.last >= claim.last:
            begin = claim.after + 1 if claim.after is not None else check.first
            if claim.hash and check.remembers(claim.last, claim.hash) is False:
                what = f"record {claim.last} is not the one that was written here: the log was written anew"
                tell(Fault.REWRITTEN, Severity.ERROR, what)
            elif self._database and check.first > begin and not cover(stones, begin, check.first - 1, hash_=""):
                what = f"records {begin} to {check.first - 1} are missing: they were written here, and confirmed"
                tell(Fault.MISSING, Severity.ERROR, f"{what}{check.pruned_by_nobody(begin, check.first - 1)}")
            return
        after = max(check.last if check is not None else 0, claim.after or 0)
        if cover(stones, after + 1, claim.last, hash_=claim.hash):
            return
        if check is None and not self._database:
            what = f"records up to {claim.last} were written here, none is here: where it was rotated, name all files"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        elif check is None and claim.after is None:
            what = f"none of the records up to {claim.last} is here; whether they were is not known"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        else:
            what = f"records {after + 1} to {claim.last} are missing: they were written here, and confirmed"
            tell(Fault.MISSING, Severity.ERROR, what)

    def _on_its_way(self, first: int, claim: Checkpoint) -> bool:
        """Return whether records *first* up to the one of *claim* are still to be delivered.

        Then the keeper's stream has them, but it also keeps delivered records for a while.
        """
        if self._delivered is not None and self._delivered.last >= first:
            return False
        checks = [instance.check for instance in self._stream.instances.values()]
        return any(check.first <= first and check.remembers(claim.sequence, claim.hash) for check in checks)

    def _teller(self, instance: str) -> Tell:
        """Return a function that notes flaws of *instance*."""

        def tell(fault: Fault, severity: Severity, place: Place, sequence: int, what: str) -> None:
            flaw = Flaw(
                fault=fault, severity=severity, place=place.name, instance=instance, sequence=sequence, what=what
            )
            self._flaws.append((place.order, flaw))

        return tell


def _same_sinks(anchor: Anchor, instance: Instance) -> bool:
    """Return whether the configuration, and so the sinks, is the same at *anchor* as at the first checkpoint."""
    return bool(anchor.config_digest) and anchor.config_digest == instance.config_digest
