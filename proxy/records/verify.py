"""Checks records, as sinks keep them, against their chain, their checkpoints, and anchors kept elsewhere."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.records.chain import Link, link_of
from proxy.records.chain_check import ChainCheck, Tell
from proxy.records.checkpoint_key import Checkpoint, vouches
from proxy.records.flaw import Fault, Flaw, Place, Severity
from proxy.records.tombstone import Tombstone, tombstones_in

_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A checkpoint that was kept elsewhere, at *place* there; *public_key* is what it was signed with."""

    claim: Checkpoint
    public_key: str
    place: str


@dataclass(slots=True, kw_only=True)
class Instance:
    """What is known of one instance's chain."""

    check: ChainCheck
    place: Place
    keys: dict[str, int] = field(default_factory=dict)
    vouched: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How it ended: all *flaws* in the order in which they stand, and the chains by instance."""

    flaws: tuple[Flaw, ...]
    instances: Mapping[str, Instance]

    @property
    def holds(self) -> bool:
        """Return whether there is no flaw but such as may have an innocent reason."""
        return not any(flaw.severity is Severity.ERROR for flaw in self.flaws)


class Verifier:
    """Takes lines in the order in which they stand, then gives its verdict.

    *public_key* is the one that checkpoints must be signed with, "" for any; of a *running* instance no clean stop is
    expected at the end. What was pruned is no flaw where a record says so.
    """

    def __init__(
        self,
        *,
        public_key: str = "",
        anchors: Iterable[Anchor] = (),
        running: bool = False,
    ) -> None:
        self._running = running
        self._public_key = public_key
        self._anchors = tuple(anchors)
        self._tombstones: list[Tombstone] = []
        self._instances: dict[str, Instance] = {}
        self._flaws: list[tuple[int, Flaw]] = []
        self._lines = 0

    def __repr__(self) -> str:
        return f"<Verifier {self._lines} lines, {len(self._flaws)} flaws>"

    def take(self, line: bytes, where: str) -> None:
        """Take the next *line*, without line feed, which stands *where*."""
        self._lines += 1
        place = Place(self._lines, where)
        link = link_of(line)
        record = _object(line)
        name = str(record.get("instance", ""))
        if link is None or not record or (not link.intact and name not in self._instances):
            self._spoiled(place)
            return
        instance = self._instances.get(name) or self._begin(name)
        instance.place = place
        began = bool(instance.check.records)
        if instance.check.take(link, place):
            self._read(name, record, link, place, began=began)

    def cut(self, where: str) -> None:
        """Note a last line that has no line feed: it was being written, or the file was cut."""
        what = "the last line is not whole: it was being written, or the file was cut"
        self._teller("")(Fault.CUT, Severity.WARNING, Place(self._lines + 1, where), 0, what)

    def finish(self) -> Verdict:
        """Return the verdict."""
        for name, instance in self._instances.items():
            instance.check.tombstones += [stone for stone in self._tombstones if stone.instance == name]
            instance.check.finish()
            if not (instance.stopped or self._running):
                what = (
                    f"record {instance.check.last} is the last, and no clean stop: the instance still runs, was killed,"
                    " or records are missing at the end"
                )
                self._teller(name)(Fault.UNCLEAN, Severity.WARNING, instance.place, instance.check.last, what)
        for anchor in self._anchors:
            self._compare(anchor)
        flaws = tuple(flaw for _, flaw in sorted(self._flaws, key=lambda pair: pair[0]))
        return Verdict(flaws=flaws, instances=self._instances)

    def _begin(self, name: str) -> Instance:
        check = ChainCheck(self._teller(name))
        instance = self._instances[name] = Instance(check=check, place=Place(0, ""))
        return instance

    def _spoiled(self, place: Place) -> None:
        """Take what says no place in a chain for the next record of the only chain here, if there is but one."""
        if len(self._instances) == 1:
            next(iter(self._instances.values())).check.spoiled(place)
        else:
            what = "this is no record, or one that was changed in its first or last bytes"
            self._teller("")(Fault.UNREADABLE, Severity.ERROR, place, 0, what)

    def _read(self, name: str, record: dict[str, Any], link: Link, place: Place, *, began: bool) -> None:
        """Take from a sound record what it says of the chain itself."""
        instance = self._instances[name]
        event = record.get("event") if record.get("kind") == "lifecycle" else ""
        if event == "checkpoint":
            self._check(name, record, link, place)
            return
        if event == "start" and began and not instance.stopped:
            what = (
                f"the instance started before record {link.sequence} without a clean stop: it was killed, or what it "
                "recorded last is missing"
            )
            self._teller(name)(Fault.UNCLEAN, Severity.WARNING, place, link.sequence, what)
        instance.stopped = event == "stop"
        self._tombstones += tombstones_in(record)

    def _check(self, name: str, record: dict[str, Any], link: Link, place: Place) -> None:
        """Check a checkpoint: who signed it, and that it speaks of the record before it."""
        claim, key, signature = checkpoint_in(record)
        if not vouches(key, signature, claim):
            what = f"record {link.sequence} is a checkpoint with a signature that its key did not make"
            self._teller(name)(Fault.FORGED, Severity.ERROR, place, link.sequence, what)
            return
        if (claim.sequence, claim.hash) != (link.sequence - 1, link.previous_hash):
            what = f"record {link.sequence} is a checkpoint of another chain"
            self._teller(name)(Fault.FORGED, Severity.ERROR, place, link.sequence, what)
            return
        instance = self._instances[name]
        if self._public_key and key != self._public_key:
            what = f"record {link.sequence} is a checkpoint by the key {key}, which is not this proxy's"
            self._teller(name)(Fault.KEY, Severity.ERROR, place, link.sequence, what)
        elif key not in instance.keys and instance.keys:
            what = f"from record {link.sequence} on, checkpoints are by another key, {key}"
            self._teller(name)(Fault.KEY, Severity.WARNING, place, link.sequence, what)
        instance.keys[key] = instance.keys.get(key, 0) + 1
        instance.vouched = claim.sequence

    def _compare(self, anchor: Anchor) -> None:
        """Compare the chain with what it was when *anchor* was kept."""
        claim = anchor.claim
        place = Place(self._lines + 1, anchor.place)
        instance = self._instances.get(claim.instance)

        def tell(fault: Fault, severity: Severity, what: str) -> None:
            self._teller(claim.instance)(fault, severity, place, claim.sequence, what)

        if instance is None or not instance.check.records:
            tell(Fault.MISSING, Severity.ERROR, f"there were {claim.sequence} records at {claim.time}, none is here")
            return
        check = instance.check
        if claim.sequence > check.last:
            what = f"records {check.last + 1} to {claim.sequence} are missing: they were there at {claim.time}"
            tell(Fault.MISSING, Severity.ERROR, what)
        elif claim.sequence < check.first:
            what = f"record {claim.sequence} comes before all that are here, and was not compared"
            tell(Fault.ANCHOR, Severity.WARNING, what)
        elif check.remembers(claim.sequence, claim.hash) is False:
            what = f"record {claim.sequence} is not the one of {claim.time}: the log was written anew"
            tell(Fault.REWRITTEN, Severity.ERROR, what)
        if instance.keys and anchor.public_key not in instance.keys:
            tell(Fault.KEY, Severity.WARNING, f"the anchor is by another key, {anchor.public_key}")

    def _teller(self, instance: str) -> Tell:
        """Return a function that notes flaws of *instance*."""

        def tell(fault: Fault, severity: Severity, place: Place, sequence: int, what: str) -> None:
            flaw = Flaw(
                fault=fault, severity=severity, place=place.name, instance=instance, sequence=sequence, what=what
            )
            self._flaws.append((place.order, flaw))

        return tell


def checkpoint_in(record: dict[str, Any]) -> tuple[Checkpoint, str, str]:
    """Return what the checkpoint *record* claims, the key it names and its signature; empty where it has none."""
    signed = record.get("checkpoint")
    signed = signed if isinstance(signed, dict) else {}
    sequence = signed.get("sequence")
    claim = Checkpoint(
        instance=str(record.get("instance", "")),
        sequence=sequence if isinstance(sequence, int) else 0,
        hash=str(signed.get("hash", "")),
        time=str(record.get("time", "")),
    )
    return claim, str(signed.get("public_key", "")), str(signed.get("signature", ""))


def anchors_in(lines: Iterable[tuple[bytes, str]]) -> tuple[list[Anchor], list[Flaw]]:
    """Return the checkpoints among *lines* (with their places) that their key signed, and what is wrong with others.

    Records of other kinds are passed over: a whole log kept elsewhere is an anchor too.
    """
    anchors, flaws = [], []
    for text, place in lines:
        record = _object(text)
        if record.get("kind") != "lifecycle" or record.get("event") != "checkpoint":
            continue
        claim, key, signature = checkpoint_in(record)
        if vouches(key, signature, claim) and _HASH.fullmatch(claim.hash):
            anchors.append(Anchor(claim=claim, public_key=key, place=place))
        else:
            what = "this anchor's signature was not made by the key that it names"
            flaws.append(
                Flaw(
                    fault=Fault.FORGED,
                    severity=Severity.ERROR,
                    place=place,
                    instance=claim.instance,
                    sequence=claim.sequence,
                    what=what,
                )
            )
    return anchors, flaws


def _object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in *line*, {} if it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
