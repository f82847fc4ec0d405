"""What verifying a copy of the log found out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.records.chain_check import ChainCheck
from proxy.records.log_finding import Flaw, Place, Severity
from proxy.records.pruned_range import PrunedRange

# Tombstones, each with the public keys that vouch for it.
Stones = Mapping[PrunedRange, frozenset[str]]


class Outcome(StrEnum):
    """How it ended."""

    HOLDS = "holds"
    EMPTY = "empty"  # nothing is wrong, since there is nothing
    BROKEN = "broken"


@dataclass(slots=True, kw_only=True)
class Signed:
    """How many checkpoints were signed with one key, and the first of them."""

    place: Place
    sequence: int
    checkpoints: int = 0


@dataclass(slots=True, kw_only=True)
class Instance:
    """What is known of one instance's chain; `name` is the first of its `names`, `config_digest` its first signer's.

    `ids` are those of its data directory, of which records before 2026-11-28 had none. `keys` signed its checkpoints,
    `declared` are those that its starts name. `own`: it is this data directory's. `trusted`: all of its keys are.
    """

    name: str
    check: ChainCheck
    place: Place
    names: dict[str, None] = field(default_factory=dict)
    ids: dict[str, None] = field(default_factory=dict)
    config_digest: str = ""
    keys: dict[str, Signed] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    vouched: int = 0
    stopped: bool = False
    own: bool = False
    trusted: bool = False
    # Tombstones that no checkpoint has followed yet, each with how often the chain was broken before it.
    pending: dict[PrunedRange, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How it ended: all *flaws* in the order in which they stand, the chains by instance, and what was pruned."""

    flaws: tuple[Flaw, ...] = ()
    instances: Mapping[str, Instance] = field(default_factory=dict)
    stones: Stones = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """Return how it ended; flaws that may have an innocent reason change nothing."""
        if any(flaw.severity is Severity.ERROR for flaw in self.flaws):
            return Outcome.BROKEN
        return Outcome.HOLDS if self.instances else Outcome.EMPTY

    @property
    def holds(self) -> bool:
        """Return whether there are records and all is in order with them."""
        return self.outcome is Outcome.HOLDS
