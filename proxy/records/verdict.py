"""The result of verifying a copy of the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.records.chain_check import ChainCheck
from proxy.records.log_finding import Flaw, Place, Severity
from proxy.records.pruned_range import PrunedRange

# Tombstones, each with the public keys that attest it.
Stones = Mapping[PrunedRange, frozenset[str]]


class Outcome(StrEnum):
    """The overall result."""

    HOLDS = "holds"
    EMPTY = "empty"  # no flaws, since there are no records
    BROKEN = "broken"


@dataclass(slots=True, kw_only=True)
class Signed:
    """Number of checkpoints signed with one key, and the first of them."""

    place: Place
    sequence: int
    checkpoints: int = 0


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance's chain: `name` is the first of its `names`, `config_digest` that of its first signed checkpoint.

    `ids` are those of its data directory, absent in records before 2026-11-28. `keys` signed its checkpoints; its
    starts name the `declared` ones. `own`: it is this data directory's. `trusted`: all of its keys are.
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
    # Tombstones not followed by a checkpoint yet, each with the number of chain breaks before it.
    pending: dict[PrunedRange, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result: all *flaws* in the order of their places, the chains by instance, and what was pruned."""

    flaws: tuple[Flaw, ...] = ()
    instances: Mapping[str, Instance] = field(default_factory=dict)
    stones: Stones = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """Return the overall result; warnings don't change it."""
        if any(flaw.severity is Severity.ERROR for flaw in self.flaws):
            return Outcome.BROKEN
        return Outcome.HOLDS if self.instances else Outcome.EMPTY

    @property
    def holds(self) -> bool:
        """Return whether there are records, without errors."""
        return self.outcome is Outcome.HOLDS
