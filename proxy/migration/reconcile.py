"""What two replicas that know different states agree on: the later change, and never a promotion by accident."""

from collections.abc import Mapping
from dataclasses import replace

from proxy.migration.state import Document, State

States = dict[str, State]


def reconciled(mine: Document, theirs: Mapping[str, State]) -> tuple[States, States]:
    """Return the states that hold from now on, and those among them that the others have to be told.

    *theirs* is what all replicas share. What was changed here while that was away, *mine.unshared*, gets a version
    above it and is told, unless somebody else went lower meanwhile: weights grow by a person's decision only.
    """
    agreed: States = {}
    to_tell: States = {}
    for name in mine.states.keys() | theirs.keys():
        own, shared = mine.states.get(name), theirs.get(name)
        if shared is None or own is None:
            agreed[name] = shared or own or State()
            news = shared is None
        else:
            agreed[name] = _agreed(own, shared, unshared=name in mine.unshared)
            news = agreed[name] != shared
        if news and agreed[name].version:
            to_tell[name] = agreed[name]
    return agreed, to_tell


def _agreed(own: State, shared: State, *, unshared: bool) -> State:
    if own == shared:
        return shared
    if shared.version < own.version:
        # Nobody else has changed it, or what is shared was lost and came back from an older copy.
        return own
    if not unshared and shared.version > own.version:
        return shared
    # Both have changed: the lower weight holds, and so does every hold of the guard.
    winner = shared if shared.weight < own.weight else own
    held = tuple(sorted({*own.held, *shared.held}))
    if winner == shared and held == shared.held:
        return shared
    return replace(winner, version=shared.version + 1, held=held)
