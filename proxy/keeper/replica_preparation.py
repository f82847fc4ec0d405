"""Whether every replica has prepared for a state of a migration, so that a weight may grow."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from proxy.clock import Clock
from proxy.keeper.replication import ReplicasUnreachable
from proxy.keeper.weights import Weights
from proxy.migration.stores.redis import CONTACT_SECONDS, RedisStore
from proxy.stores.redis_client import StoreAway, raise_if_cancelled

_LOOK_SECONDS = 0.01
# How long to wait for a replica to report its requests in flight before raising.
_TOLD_SECONDS = 0.8
# --force also covers replicas found silent within this time: they count as alive for LEASE_SECONDS, and must have been
# silent for CONTACT_SECONDS before anybody goes on without them.
_FORCED_SECONDS = 30.0


class ReplicaPreparation:
    """Asks all replicas whether they have prepared for a state; *store* raises ReplicasUnreachable while away.

    `asked` are the states, by migration, for which this replica itself has prepared since it was asked.
    """

    def __init__(self, weights: Weights, *, store: Callable[[], RedisStore], clock: Clock) -> None:
        self.asked: dict[str, str] = {}
        self.silent = ""  # which replicas were not heard of when last asked, in words
        self.gone_without: dict[str, tuple[str, ...]] = {}  # by the identity of the last forced state
        self._weights = weights
        self._store = store
        self._clock = clock
        self._forced = ""  # identity of the state for which an operator used --force
        self._forced_until = 0.0

    async def settled(self, states: Mapping[str, str], *, me: str) -> bool:
        """Wait until every replica has prepared for *states*; as `Replication.settled`, for the replica *me*."""
        end = self._clock.monotonic() + _TOLD_SECONDS
        while True:
            raise_if_cancelled()
            store = self._store()
            with _mapped():
                alive, lost = await store.replicas()
            late = [
                name
                for name, beat in alive.items()
                if name != me and any(beat.prepared.get(one) != state for one, state in states.items())
            ]
            if any(self._weights.state(name).identity != state for name, state in states.items()):
                return False
            if lost and self._forced in states.values() and self._clock.monotonic() < self._forced_until:
                with _mapped():
                    gone = await self._remove(store, lost)
                if gone:
                    self._weights.write_line(f"migrations: goes on without replica {', '.join(gone)}, as requested")
                    continue
            if not late and not lost:
                return True
            if lost or self._clock.monotonic() > end:
                with _mapped():
                    await self.note_silent(store, lost)
                raise ReplicasUnreachable(self.silent or _late(late))
            await self._clock.sleep(_LOOK_SECONDS)

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Remove the lost replicas from the list, for the change to *state* (an identity); return their names."""
        store = self._store()
        self._forced, self._forced_until = state, self._clock.monotonic() + _FORCED_SECONDS
        with _mapped():
            _, lost = await store.replicas()
            await self._remove(store, lost)
        return tuple(sorted(lost))  # `settled` removes those that were not silent for long enough

    async def note_silent(self, store: RedisStore, lost: Mapping[str, float]) -> None:
        """Note in words which replicas are *lost*, and since when, by Redis' clock; raise StoreAway."""
        self.silent = _silent(lost, now=await store.time()) if lost else ""

    async def _remove(self, store: RedisStore, lost: Mapping[str, float]) -> tuple[str, ...]:
        """Remove those of *lost* that send nothing with a retry key any more, if they run; return their names."""
        now = await store.time() if lost else 0.0
        gone = tuple(sorted(name for name, since in lost.items() if now - since >= CONTACT_SECONDS))
        for name in gone:
            await store.leave(name)
        # Only of the last forced change.
        self.gone_without = {self._forced: self.gone_without.get(self._forced, ()) + gone}
        return gone

    def __repr__(self) -> str:
        return f"<ReplicaPreparation for {', '.join(self.asked)}>"


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn StoreAway into ReplicasUnreachable."""
    try:
        yield
    except StoreAway as away:
        raise ReplicasUnreachable(f"the Redis of [state]: {away}") from None


def _late(names: list[str]) -> str:
    """Return that a change waits for the replicas *names*."""
    return f"replica {', '.join(names)} has not reported yet what it has in flight"


def _silent(lost: Mapping[str, float], *, now: float) -> str:
    """Return which replicas are silent, and what to do; *lost* and *now* by Redis' clock."""
    names = ", ".join(f"{name} (for {max(0.0, now - since):.0f} s)" for name, since in sorted(lost.items()))
    # A name is that of the instance with 16 hex digits.
    instances = ", ".join(sorted({name.rpartition("-")[0] or name for name in lost}))
    return (
        f"replica {names} is silent: it has ended without a clean stop, is frozen, or is cut off from Redis and may go "
        "on with the weight that it knows. What it had in flight is known when it is back with its data directory. "
        "--force with `set` or `rollback` goes on without it, which is safe only after its process was stopped "
        f"(instance {instances})"
    )
