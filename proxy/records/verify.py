"""Verify a copy of the log, as a sink keeps it, against its chains, its checkpoints, and what is known from elsewhere.

First `Chains` reads all lines; what is below compares the result with keys, anchors, and the keeper's positions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.records.anchor import Anchor
from proxy.records.chain_check import ChainCheck
from proxy.records.chains import Chains
from proxy.records.checkpoint_key import Checkpoint, fingerprint
from proxy.records.copies import Line
from proxy.records.log_finding import FaultKind, Location, LogFinding, Severity
from proxy.records.pruned_range import PrunedRange, cover
from proxy.records.sink_positions import Delivered


class Outcome(StrEnum):
    """The overall result."""

    HOLDS = "holds"
    EMPTY = "empty"  # no errors, since there are no records
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """The result: all *findings*, causes before consequences, the chains by instance, and what was pruned.

    Each pruned range has the public keys that attest it.
    """

    findings: tuple[LogFinding, ...] = ()
    chains: Mapping[str, ChainCheck] = field(default_factory=dict)
    pruned: Mapping[PrunedRange, frozenset[str]] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """Return the overall result; warnings don't change it."""
        if any(finding.severity is Severity.ERROR for finding in self.findings):
            return Outcome.BROKEN
        return Outcome.HOLDS if self.chains else Outcome.EMPTY

    @property
    def holds(self) -> bool:
        """Return whether there are records, without errors."""
        return self.outcome is Outcome.HOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a copy is compared with.

    *trusted* are the public keys that must sign checkpoints, none for any; in a *shared* copy, other instances may use
    their own keys. *own_chain* is the id of this data directory. A *running* instance needs no clean stop at the end.
    Pruned records are no fault if a signed record states the pruning. A *database* loses nothing otherwise, unlike a
    rotated file. *stream* is the verdict on the keeper's stream, which may be ahead. *delivered* is what must be there.
    """

    trusted: frozenset[str] = frozenset()
    own_chain: str = ""
    anchors: Sequence[Anchor] = ()
    running: bool = False
    shared: bool = False
    database: bool = False
    stream: VerifyResult = field(default_factory=VerifyResult)
    delivered: Delivered | None = None


def verify(lines: Iterable[Line], expected: Expected) -> VerifyResult:
    """Return the verdict on *lines*, in file order."""
    chains = Chains(dict(expected.stream.pruned))
    for line in lines:
        chains.take(line)
    for anchor in expected.anchors:
        if chain := chains.attested(anchor.claim):
            chain.declared.add(anchor.public_key)
    for chain in chains.by_name.values():
        _check_keys(chain, expected)
    _report_strangers(chains, expected)
    for chain in chains.by_name.values():
        _check_gaps_and_end(chain, chains, expected)
    for anchor in expected.anchors:
        _compare_anchor(anchor, chains, expected)
    _compare_delivered(chains, expected)
    return VerifyResult(findings=chains.findings.causes_first(), chains=chains.by_name, pruned=chains.pruned)


def _check_keys(chain: ChainCheck, expected: Expected) -> None:
    """Determine the owner of *chain*, and report keys that should not have signed it."""
    trusted = expected.trusted
    chain.own = expected.own_chain in chain.ids or not trusted.isdisjoint([*chain.keys, *chain.declared])
    chain.trusted = bool(chain.keys) and trusted.issuperset(chain.keys)
    if trusted and (chain.own or not expected.shared):
        for key, use in chain.keys.items():
            if key not in trusted:
                what = (
                    f"record {use.sequence} is a checkpoint by the key {key}, {fingerprint(key)}, which is not "
                    "trusted: it is not this data directory's, and not named by --key"
                )
                chain.error(FaultKind.KEY, use.place, use.sequence, what)
        return
    for key, use in list(chain.keys.items())[1:]:
        what = f"from record {use.sequence} on, checkpoints are by another key, {key}"
        chain.warning(FaultKind.KEY, use.place, use.sequence, what)


def _report_strangers(chains: Chains, expected: Expected) -> None:
    """Report chains that someone added beside this data directory's own, in a copy that no other instance has."""
    if expected.shared or not any(chain.own for chain in chains.by_name.values()):
        return
    for chain in chains.by_name.values():
        if not chain.own and not chain.keys:
            what = f"{chain.records} records are of a chain that is not this data directory's and is not signed"
            chain.error(FaultKind.FORGED, chain.place, chain.first, what)


def _check_gaps_and_end(chain: ChainCheck, chains: Chains, expected: Expected) -> None:
    counting = _pruned(chains, chain, expected)
    about = [pruned for pruned in chains.pruned if _is_about(pruned, chain)]
    chain.finish(
        pruned=[pruned for pruned in about if pruned in counting],
        refused=[pruned for pruned in about if pruned not in counting],
    )
    if not (chain.stopped or expected.running or chain.pruned_in(range(chain.last - chain.after_stop, chain.last + 1))):
        what = (
            f"record {chain.last} is the last, and no clean stop: the instance still runs, was killed,"
            " or records are missing at the end"
        )
        chain.warning(FaultKind.UNCLEAN, chain.place, chain.last, what)


def _pruned(chains: Chains, chain: ChainCheck | None, expected: Expected, *more: str) -> list[PrunedRange]:
    """Return the pruned ranges that count for *chain*: by a trusted key, or its own if it has only one."""
    own = {*chain.keys, *chain.declared, *more} if chain is not None else set(more)
    keys = expected.trusted | own if len(own) == 1 else expected.trusted
    return [pruned for pruned, attesting in chains.pruned.items() if attesting & keys]


def _is_about(pruned: PrunedRange, chain: ChainCheck) -> bool:
    named = pruned.chain in chain.ids if pruned.chain and chain.ids else pruned.instance in chain.names
    return named or chain.borders(pruned)


def _compare_anchor(anchor: Anchor, chains: Chains, expected: Expected) -> None:
    """Compare the chain with what *anchor* attests."""
    claim, findings = anchor.claim, chains.findings
    about = (Location(chains.lines + 1, anchor.place), claim.instance, claim.sequence)
    chain = chains.attested(claim)
    pruned = _pruned(chains, chain, expected, anchor.public_key)
    is_pruned = any(one.contains(claim) for one in pruned)
    last = chain.last if chain is not None else 0
    # Pruning a month prunes all before it; for a chain that is still here, everything missing must be covered.
    gone = chain is None or cover(pruned, last + 1, claim.sequence, hash_=claim.hash)
    if claim.sequence > last and is_pruned and gone:
        findings.warning(FaultKind.ANCHOR, *about, f"record {claim.sequence} was pruned, and was not compared")
        return
    if chain is None:
        what = f"there were {claim.sequence} records at {claim.time}, none is here"
        findings.error(FaultKind.MISSING, *about, what)
        return
    if claim.sequence > last and _is_on_its_way(last + 1, claim, expected):
        what = f"records {last + 1} to {claim.sequence} have not come here yet: the stream still has them"
        findings.warning(FaultKind.ANCHOR, *about, what)
    elif claim.sequence > last:
        what = f"records {last + 1} to {claim.sequence} are missing: they were there at {claim.time}"
        findings.error(FaultKind.MISSING, *about, what)
    elif claim.sequence < chain.first and expected.database and not is_pruned and _same_sinks(anchor, chain):
        # A database that was enabled or replaced since has another configuration.
        what = (
            f"records {claim.sequence} to {chain.first - 1} are missing: this database was configured already at"
            f" {claim.time}, and no record says that they were pruned"
        )
        findings.error(FaultKind.MISSING, *about, what)
    elif claim.sequence < chain.first:
        what = f"record {claim.sequence} comes before all that are here, and was not compared"
        findings.warning(FaultKind.ANCHOR, *about, what)
    elif chain.remembers(claim.sequence, claim.hash) is False:
        what = f"record {claim.sequence} is not the one of {claim.time}: the log was written anew"
        findings.error(FaultKind.REWRITTEN, *about, what)
    if chain.keys and anchor.public_key not in chain.keys:
        findings.warning(FaultKind.KEY, *about, f"the anchor is by another key, {anchor.public_key}")


def _is_on_its_way(first: int, claim: Checkpoint, expected: Expected) -> bool:
    """Return whether records *first* up to the one of *claim* are still to be delivered.

    Then the keeper's stream has them, but it also keeps delivered records for a while.
    """
    if expected.delivered is not None and expected.delivered.last >= first:
        return False
    chains = expected.stream.chains.values()
    return any(chain.first <= first and chain.remembers(claim.sequence, claim.hash) for chain in chains)


def _same_sinks(anchor: Anchor, chain: ChainCheck) -> bool:
    """Return whether the configuration, and so the sinks, is the same at *anchor* as at the first checkpoint."""
    return bool(anchor.config_digest) and anchor.config_digest == chain.config_digest


def _compare_delivered(chains: Chains, expected: Expected) -> None:
    """Compare the chain with what the keeper knows this copy has received."""
    claim, findings = expected.delivered, chains.findings
    place = Location(chains.lines + 2, "the keeper's positions")
    if claim is None:
        if expected.shared and not any(chain.own for chain in chains.by_name.values()):
            what = "no chain here is this data directory's, and whether there was one is not known"
            findings.warning(FaultKind.ANCHOR, place, "", 0, what)
        return
    if claim.nothing:
        return
    chain = chains.delivered(claim, shared=expected.shared)
    about = (place, chain.name if chain is not None else "", claim.last)
    pruned = _pruned(chains, chain, expected)
    if chain is not None and chain.last >= claim.last:
        begin = claim.after + 1 if claim.after is not None else chain.first
        if claim.hash and chain.remembers(claim.last, claim.hash) is False:
            what = f"record {claim.last} is not the one that was written here: the log was written anew"
            findings.error(FaultKind.REWRITTEN, *about, what)
        elif expected.database and chain.first > begin and not cover(pruned, begin, chain.first - 1, hash_=""):
            what = f"records {begin} to {chain.first - 1} are missing: they were written here, and confirmed"
            what += chain.pruned_by_nobody(begin, chain.first - 1)
            findings.error(FaultKind.MISSING, *about, what)
        return
    after = max(chain.last if chain is not None else 0, claim.after or 0)
    if cover(pruned, after + 1, claim.last, hash_=claim.hash):
        return
    if chain is None and not expected.database:
        what = f"records up to {claim.last} were written here, none is here: where it was rotated, name all files"
        findings.warning(FaultKind.ANCHOR, *about, what)
    elif chain is None and claim.after is None:
        what = f"none of the records up to {claim.last} is here; whether they were is not known"
        findings.warning(FaultKind.ANCHOR, *about, what)
    else:
        what = f"records {after + 1} to {claim.last} are missing: they were written here, and confirmed"
        findings.error(FaultKind.MISSING, *about, what)
