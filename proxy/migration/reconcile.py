"""Merges different states of two replicas: the later change wins, but never raises a weight by accident."""

from collections.abc import Mapping
from dataclasses import replace

from proxy.migration.state import Document, MigrationState

States = dict[str, MigrationState]


def reconciled(mine: Document, theirs: Mapping[str, MigrationState]) -> tuple[States, States]:
    """Return the merged states, and those among them that the other replicas do not have yet.

    *theirs* is what all replicas share. A change made while that was unreachable (*mine.unshared*) gets a version above
    it and is published, unless another replica lowered the weight: only a person's decision raises weights.
    """
    agreed: States = {}
    newer: States = {}
    for name in mine.states.keys() | theirs.keys():
        own, shared = mine.states.get(name), theirs.get(name)
        if shared is None or own is None:
            agreed[name] = shared or own or MigrationState()
            changed = shared is None
        else:
            agreed[name] = _agreed(own, shared, unshared=name in mine.unshared)
            changed = agreed[name] != shared
        if changed and agreed[name].version:
            newer[name] = agreed[name]
    return agreed, newer


def _agreed(own: MigrationState, shared: MigrationState, *, unshared: bool) -> MigrationState:
    if own == shared:
        return shared
    if shared.version < own.version:
        # No other replica has changed it, or the shared state was lost and restored from an older copy.
        return own
    if not unshared and shared.version > own.version:
        return shared
    # Both have changed: the lower weight wins, and all holds of the guard are kept.
    winner = shared if shared.weight < own.weight else own
    held = tuple(sorted({*own.held, *shared.held}))
    if winner == shared and held == shared.held:
        return shared
    return replace(winner, version=shared.version + 1, held=held)
