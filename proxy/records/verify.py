"""Checks records, as sinks keep them, against their chain, their checkpoints, and anchors kept elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.records.anchor import Anchor, checkpoint_in, object_in
from proxy.records.chain import Link, link_of
from proxy.records.chain_check import ChainCheck, Tell
from proxy.records.checkpoint_key import Checkpoint, vouches
from proxy.records.flaw import Fault, Flaw, Place, Severity
from proxy.records.tombstone import Tombstone, buried, tombstones_in


@dataclass(slots=True, kw_only=True)
class Instance:
    """What is known of one instance's chain; `name` is the first of its `names`, `config_digest` its first signer's."""

    name: str
    check: ChainCheck
    place: Place
    names: dict[str, None] = field(default_factory=dict)
    config_digest: str = ""
    keys: dict[str, int] = field(default_factory=dict)
    vouched: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How it ended: all *flaws* in the order in which they stand, the chains by instance, and what was pruned."""

    flaws: tuple[Flaw, ...] = ()
    instances: Mapping[str, Instance] = field(default_factory=dict)
    tombstones: tuple[Tombstone, ...] = ()

    @property
    def holds(self) -> bool:
        """Return whether there is no flaw but such as may have an innocent reason."""
        return not any(flaw.severity is Severity.ERROR for flaw in self.flaws)


_NOTHING = Verdict()


class Verifier:
    """Takes lines in the order in which they stand, then gives its verdict.

    *public_key* is the one that checkpoints must be signed with, "" for any; of a *running* instance no clean stop is
    expected at the end. What was pruned is no flaw where a record says so. From a *database* nothing goes otherwise, as
    it does from a file that is rotated. *stream* is what the keeper's stream was found to be: it may be ahead.
    """

    def __init__(
        self,
        *,
        public_key: str = "",
        anchors: Iterable[Anchor] = (),
        running: bool = False,
        database: bool = False,
        stream: Verdict = _NOTHING,
    ) -> None:
        self._running = running
        self._database = database
        self._stream = stream
        self._public_key = public_key
        self._anchors = tuple(anchors)
        self._tombstones = list(stream.tombstones)
        self._instances: dict[str, Instance] = {}
        self._named: dict[str, Instance] = {}
        self._flaws: list[tuple[int, Flaw]] = []
        self._lines = 0

    def __repr__(self) -> str:
        return f"<Verifier {self._lines} lines, {len(self._flaws)} flaws>"

    def take(self, line: bytes, where: str) -> None:
        """Take the next *line*, without line feed, which stands *where*."""
        self._lines += 1
        place = Place(self._lines, where)
        link = link_of(line)
        record = object_in(line)
        name = str(record.get("instance", ""))
        instance = self._chain_of(link, name) if link is not None and record else None
        if link is None or not record or (instance is None and not link.intact):
            self._spoiled(place)
            return
        instance = instance or self._begin(name)
        instance.place = place
        began = bool(instance.check.records)
        if instance.check.take(link, place):
            instance.names[name] = None
            self._named[name] = instance
            self._read(instance, record, link, place, began=began)

    def cut(self, where: str) -> None:
        """Note a last line that has no line feed: it was being written, or the file was cut."""
        what = "the last line is not whole: it was being written, or the file was cut"
        self._teller("")(Fault.CUT, Severity.WARNING, Place(self._lines + 1, where), 0, what)

    def finish(self) -> Verdict:
        """Return the verdict."""
        for name, instance in self._instances.items():
            check = instance.check
            check.tombstones += [
                stone for stone in self._tombstones if stone.instance in instance.names or check.borders(stone)
            ]
            check.finish()
            if not (instance.stopped or self._running):
                what = (
                    f"record {check.last} is the last, and no clean stop: the instance still runs, was killed,"
                    " or records are missing at the end"
                )
                self._teller(name)(Fault.UNCLEAN, Severity.WARNING, instance.place, check.last, what)
        for anchor in self._anchors:
            self._compare(anchor)
        flaws = tuple(flaw for _, flaw in sorted(self._flaws, key=lambda pair: pair[0]))
        return Verdict(flaws=flaws, instances=self._instances, tombstones=tuple(self._tombstones))

    def _chain_of(self, link: Link, name: str) -> Instance | None:
        """Return the chain that *link* goes on, else the one of which a record by *name* was the last.

        Hashes go before names: a host may come back under another name, and commands run on other hosts. But what the
        named chain lacks must not be hidden by what stands behind it and begins as if it were a chain of its own.
        """
        named = self._named.get(name)
        if named is not None and named.check.precedes(link):
            return named
        for instance in self._instances.values():
            if instance.check.precedes(link) and (named is None or instance.check.first <= named.check.last):
                return instance
        return named

    def _begin(self, name: str) -> Instance:
        check = ChainCheck(self._teller(name))
        instance = self._instances[name] = Instance(name=name, check=check, place=Place(0, ""))
        return instance

    def _spoiled(self, place: Place) -> None:
        """Take what says no place in a chain for the next record of the only chain here, if there is but one."""
        if len(self._instances) == 1:
            next(iter(self._instances.values())).check.spoiled(place)
        else:
            what = "this is no record, or one that was changed in its first or last bytes"
            self._teller("")(Fault.UNREADABLE, Severity.ERROR, place, 0, what)

    def _read(self, instance: Instance, record: dict[str, Any], link: Link, place: Place, *, began: bool) -> None:
        """Take from a sound record what it says of the chain itself."""
        event = record.get("event") if record.get("kind") == "lifecycle" else ""
        if event == "checkpoint":
            self._check(instance, record, link, place)
            return
        if event == "start":
            instance.check.started()
        if event == "start" and began and not instance.stopped:
            what = (
                f"the instance started before record {link.sequence} without a clean stop: it was killed, or what it "
                "recorded last is missing"
            )
            self._teller(instance.name)(Fault.UNCLEAN, Severity.WARNING, place, link.sequence, what)
        instance.stopped = event == "stop"
        self._tombstones += tombstones_in(record)

    def _check(self, instance: Instance, record: dict[str, Any], link: Link, place: Place) -> None:
        """Check a checkpoint: who signed it, and that it speaks of the record before it."""
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
        if self._public_key and key != self._public_key:
            what = f"record {link.sequence} is a checkpoint by the key {key}, which is not this proxy's"
            self._teller(name)(Fault.KEY, Severity.ERROR, place, link.sequence, what)
        elif key not in instance.keys and instance.keys:
            what = f"from record {link.sequence} on, checkpoints are by another key, {key}"
            self._teller(name)(Fault.KEY, Severity.WARNING, place, link.sequence, what)
        instance.keys[key] = instance.keys.get(key, 0) + 1
        instance.vouched = claim.sequence
        instance.config_digest = instance.config_digest or str(record.get("config_digest", ""))

    def _compare(self, anchor: Anchor) -> None:
        """Compare the chain with what it was when *anchor* was kept."""
        claim = anchor.claim
        place = Place(self._lines + 1, anchor.place)
        instance = self._anchored(claim)
        pruned = buried(self._tombstones, instance=claim.instance, sequence=claim.sequence, hash_=claim.hash)

        def tell(fault: Fault, severity: Severity, what: str) -> None:
            self._teller(claim.instance)(fault, severity, place, claim.sequence, what)

        if instance is None and pruned:
            tell(Fault.ANCHOR, Severity.WARNING, f"record {claim.sequence} was pruned, and was not compared")
            return
        if instance is None:
            tell(Fault.MISSING, Severity.ERROR, f"there were {claim.sequence} records at {claim.time}, none is here")
            return
        check = instance.check
        if claim.sequence > check.last and self._stream_has(check.last + 1, claim):
            what = f"records {check.last + 1} to {claim.sequence} have not come here yet: the stream still has them"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        elif claim.sequence > check.last:
            what = f"records {check.last + 1} to {claim.sequence} are missing: they were there at {claim.time}"
            tell(Fault.MISSING, Severity.ERROR, what)
        elif claim.sequence < check.first and self._database and not pruned and _same_sinks(anchor, instance):
            # A database that was switched on, or replaced by another, has had another configuration since.
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

    def _anchored(self, claim: Checkpoint) -> Instance | None:
        """Return the chain that has what *claim* claims, else the one of that name, else the only one."""
        only = next(iter(self._instances.values())) if len(self._instances) == 1 else None
        named = self._named.get(claim.instance, only)
        for instance in (named, *self._instances.values()):
            if instance is not None and instance.check.remembers(claim.sequence, claim.hash):
                return instance
        return named

    def _stream_has(self, first: int, claim: Checkpoint) -> bool:
        """Return whether the keeper's stream still has record *first* and all that follow up to what *claim* saw."""
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
    """Return whether the configuration, and the sinks with it, was at *anchor* what it was at the first checkpoint."""
    return bool(anchor.config_digest) and anchor.config_digest == instance.config_digest
