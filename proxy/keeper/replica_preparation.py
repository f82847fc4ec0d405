"""Whether every replica has prepared for a state of a migration, so that a weight may grow."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from proxy.clock import Clock, timestamp
from proxy.keeper.replication import ReplicasUnreachable
from proxy.keeper.weights import Weights
from proxy.migration.stores.redis import RedisStore
from proxy.stores.redis_client import StoreAway, raise_if_cancelled

_LOOK_SECONDS = 0.01
# How long to wait for a replica to report its requests in flight before raising.
_TOLD_SECONDS = 0.8
# --force also covers replicas found gone within this time: they count as alive for LEASE_SECONDS.
_FORCED_SECONDS = 10.0


class ReplicaPreparation:
    """Asks all replicas whether they have prepared for a state; *store* raises ReplicasUnreachable while away.

    `asked` are the states, by migration, for which this replica itself has prepared since it was asked.
    """

    def __init__(self, weights: Weights, *, store: Callable[[], RedisStore], clock: Clock) -> None:
        self.asked: dict[str, str] = {}
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
                    await _remove(store, lost)
                self._weights.write_line(f"migrations: goes on without replica {', '.join(sorted(lost))}, as requested")
                continue
            if not late and not lost:
                return True
            if lost or self._clock.monotonic() > end:
                raise ReplicasUnreachable(_missing(late, lost))
            await self._clock.sleep(_LOOK_SECONDS)

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Remove the lost replicas from the list, for the change to *state* (an identity); return their names."""
        store = self._store()
        self._forced, self._forced_until = state, self._clock.monotonic() + _FORCED_SECONDS
        with _mapped():
            _, lost = await store.replicas()
            await _remove(store, lost)
        return tuple(lost)

    def __repr__(self) -> str:
        return f"<ReplicaPreparation for {', '.join(self.asked)}>"


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn StoreAway into ReplicasUnreachable."""
    try:
        yield
    except StoreAway as away:
        raise ReplicasUnreachable(f"the Redis of [state]: {away}") from None


async def _remove(store: RedisStore, lost: Iterable[str]) -> None:
    """Remove the replicas *lost* from the list, whatever they had in flight."""
    for name in lost:
        await store.leave(name)


def _missing(late: list[str], lost: Mapping[str, float]) -> str:
    """Return which replicas a change waits for."""
    if not lost:
        return f"replica {', '.join(late)} has not reported yet what it has in flight"
    gone = ", ".join(f"{name} (since {timestamp(at)[:19]}Z)" for name, at in sorted(lost.items()))
    return (
        f"replica {gone} ended without a clean stop, and what it had in flight is known only when it is back with "
        "its data directory; --force with `set` or `rollback` goes on without it"
    )
