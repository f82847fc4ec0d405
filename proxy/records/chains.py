"""Read a copy of the log line by line: assign each record to its chain, and take what records state about chains."""

from typing import Any

from proxy.records.anchor import checkpoint_in, object_in
from proxy.records.chain import ChainLink, link_of
from proxy.records.chain_check import ChainCheck, KeyUse
from proxy.records.chain_id import chain_in
from proxy.records.checkpoint_key import Checkpoint
from proxy.records.copies import Line
from proxy.records.log_finding import FaultKind, Findings, Location
from proxy.records.pruned_range import PrunedRange, ranges_in, signer_of
from proxy.records.sink_positions import Delivered


class Chains:
    """All chains found so far, `by_name` (a second one of a name with its id).

    *pruned* are the ranges that are known to be pruned, each with the public keys that attest it.
    """

    def __init__(self, pruned: dict[PrunedRange, frozenset[str]]) -> None:
        self.by_name: dict[str, ChainCheck] = {}
        self.pruned = pruned
        self.findings = Findings()
        self.lines = 0
        self._named: dict[str, ChainCheck] = {}
        self._by_id: dict[str, ChainCheck] = {}

    def take(self, line: Line) -> None:
        """Check the next *line*."""
        self.lines += 1
        place = Location(self.lines, line.place)
        link, record = link_of(line.text), object_in(line.text)
        name, chain_id = str(record.get("instance", "")), chain_in(record.get("chain"))
        if line.differs:
            sequence = link.sequence if link is not None else 0
            what = f"record {sequence} is searched by what it does not say: {line.differs}"
            self.findings.error(FaultKind.SEARCHED, place, name, sequence, what if line.text else line.differs)
            if not line.text:
                return
        if not line.whole:
            what = "the last line is not whole: it was being written, or the file was cut"
            self.findings.warning(FaultKind.CUT, place, "", 0, what)
            return
        chain = self._chain_of(link, name, chain_id) if link is not None and record else None
        if link is None or not record or (chain is None and not link.intact):
            self._unreadable(place)
            return
        chain = chain or self._begin(name, chain_id, place)
        chain.place = place
        is_first = not chain.records
        if chain.take(link, place):
            chain.names[name] = None
            self._named[name] = chain
            if chain_id:
                chain.ids[chain_id] = None
                self._by_id[chain_id] = chain
            self._read(chain, record, link, is_first=is_first)

    def attested(self, claim: Checkpoint) -> ChainCheck | None:
        """Return the chain that has the record of *claim*, else the one with that id or name, else the only chain."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        only = next(iter(self.by_name.values())) if len(self.by_name) == 1 else None
        named = self._named.get(claim.instance, only)
        for chain in (named, *self.by_name.values()):
            if chain is not None and chain.remembers(claim.sequence, claim.hash):
                return chain
        return None if named is not None and claim.chain and named.ids else named

    def delivered(self, claim: Delivered, *, shared: bool) -> ChainCheck | None:
        """Return the chain of this data directory in a copy; *shared*: the copy may hold other instances' chains."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        for chain in self.by_name.values():
            if claim.hash and chain.remembers(claim.last, claim.hash):
                return chain
        # Records from before chain ids existed.
        own = [one for one in self.by_name.values() if not one.ids and (one.own or not shared)]
        return own[0] if len(own) == 1 else None

    def _chain_of(self, link: ChainLink, name: str, chain_id: str) -> ChainCheck | None:
        """Return the chain that *link* continues, else the chain of the last record named *name*.

        Ids, and hashes where there is no id yet, take precedence over names: a host may come back under another name,
        and commands run on other hosts. But records after a gap must not hide that gap by counting as a chain of their
        own.
        """
        if chain_id in self._by_id:
            return self._by_id[chain_id]
        named = self._named.get(name)
        if named is not None and named.precedes(link):
            return named
        for chain in self.by_name.values():
            if chain.precedes(link) and (named is None or chain.first <= named.last):
                return chain
        if chain_id and named is not None and (named.ids or link.sequence == 1):
            return None
        return named

    def _begin(self, name: str, chain_id: str, place: Location) -> ChainCheck:
        key = name
        if name in self.by_name:
            key = f"{name} {chain_id}"
            what = f"another chain under the name {name} begins here, that of another data directory"
            self.findings.warning(FaultKind.BEGUN_ANEW, place, name, 0, what)
        chain = self.by_name[key] = ChainCheck(key, self.findings)
        return chain

    def _unreadable(self, place: Location) -> None:
        """Count a line without chain members as the next record if there is only one chain here."""
        if len(self.by_name) == 1:
            next(iter(self.by_name.values())).spoiled(place)
        else:
            what = "this is no record, or one that was changed in its first or last bytes"
            self.findings.error(FaultKind.UNREADABLE, place, "", 0, what)

    def _read(self, chain: ChainCheck, record: dict[str, Any], link: ChainLink, *, is_first: bool) -> None:
        """Process what an intact record states about the chain itself."""
        event = record.get("event") if record.get("kind") == "lifecycle" else ""
        if event == "checkpoint":
            chain.after_stop += 1
            self._check_signature(chain, record, link)
            return
        if event == "start":
            chain.started()
            if isinstance(key := record.get("public_key"), str):
                chain.declared.add(key)
            if not (is_first or chain.stopped):
                chain.unclean(link.sequence)
        # A command, such as `logs prune`, records what it does also while no instance runs.
        operated = record.get("kind") == "operation"
        chain.stopped = event == "stop" or (operated and chain.stopped)
        chain.after_stop = chain.after_stop + 1 if operated else 0
        ranges = tuple(ranges_in(record))
        signer = signer_of(record, ranges)
        for pruned in ranges:
            self._attest(pruned, signer)
            chain.unsigned[pruned] = chain.breaks

    def _check_signature(self, chain: ChainCheck, record: dict[str, Any], link: ChainLink) -> None:
        """Check a checkpoint: its signature, and that it attests the record before it."""
        claim, key, signature = checkpoint_in(record)
        what = ""
        if not claim.is_signed(key, signature):
            what = f"record {link.sequence} is a checkpoint with a signature that its key did not make"
        elif (claim.sequence, claim.hash) != (link.sequence - 1, link.previous_hash):
            what = f"record {link.sequence} is a checkpoint of another chain"
        if what:
            chain.error(FaultKind.FORGED, chain.place, link.sequence, what)
            return
        chain.keys.setdefault(key, KeyUse(chain.place, link.sequence)).checkpoints += 1
        chain.signed_up_to = claim.sequence
        chain.config_digest = chain.config_digest or str(record.get("config_digest", ""))
        for pruned, breaks in chain.unsigned.items():
            # A signature attests only what precedes it without a gap: else a range could cover its own insertion.
            if breaks == chain.breaks:
                self._attest(pruned, key)
        chain.unsigned.clear()

    def _attest(self, pruned: PrunedRange, key: str) -> None:
        self.pruned[pruned] = self.pruned.get(pruned, frozenset()) | ({key} if key else set())
