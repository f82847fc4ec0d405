"""The policies that the workers of each replica decide by: they differ while the tables of a migration are changed."""

from collections.abc import Mapping, Sequence

from proxy.migration.side import Policy
from proxy.migration.stores.redis import RedisStore


class ReplicaPolicies:
    """By migration, this replica's *own* policies and those of the *others*, as last received.

    *alive* names these, *lost* those that are silent, and since when, by Redis' clock.
    """

    def __init__(self) -> None:
        self.own: dict[str, list[Policy]] = {}
        self.others: dict[str, list[Policy]] = {}
        self.alive: tuple[str, ...] = ()
        self.lost: Mapping[str, float] = {}

    def decide_by(self, policies: Sequence[Mapping[str, Policy]]) -> None:
        """Note the *policies* that workers here decide by: several of one migration during a change."""
        names = {name for some in policies for name in some}
        self.own = {name: [some[name] for some in policies if name in some] for name in names}

    async def fetch(self, store: RedisStore, *, me: str) -> bool:
        """Read those of the replicas other than *me*; return whether they have changed. Raise StoreAway."""
        alive, self.lost = await store.replicas()
        self.alive = tuple(sorted(alive.keys() - {me}))
        others: dict[str, list[Policy]] = {}
        for replica, beat in sorted(alive.items()):
            for name, policies in beat.policies.items():
                known = others.setdefault(name, [])
                if replica != me:
                    known += [policy for policy in policies if policy not in known]
        changed = others != self.others
        self.others = others
        return changed

    def __repr__(self) -> str:
        return f"<ReplicaPolicies beside {len(self.alive)} replicas>"
