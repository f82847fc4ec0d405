"""Keys in flight: requests with a retry key that this worker has sent, or may send now, and their side."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.migration.former import Keyed
from proxy.migration.pin import Reason
from proxy.migration.side import Policy, Side

# A caller that gives up while its answer is on the way retries at once: network delay plus a margin.
LINGER_SECONDS: Final = 10.0


class KeyInFlight:
    """One retry key: *count* requests with it are in progress, all of them to *upstream* on *side*.

    *sent*: the bank may have received one of them. *uncertain*: one has ended with an outcome unknown to its caller.
    *claiming*: its side is to change once all other processes agree; stays set if they did not, or not in time, until
    its request ends. *passing*: the reason of a pin that may last longer than needed. *until*: how long it counts after
    its end (epoch seconds).
    """

    __slots__ = ("claiming", "count", "keyed", "passing", "policy", "sent", "side", "uncertain", "until", "upstream")

    def __init__(self, keyed: Keyed, policy: Policy, *, side: Side, upstream: str) -> None:
        self.keyed = keyed
        self.policy = policy
        self.side = side
        self.upstream = upstream
        self.count = 0
        self.sent = False
        self.uncertain = False
        self.claiming = False
        self.passing: Reason | None = None
        self.until = 0.0

    def __repr__(self) -> str:
        return f"<KeyInFlight {self.keyed.digest} {self.count} on {self.side}>"


class KeysInFlight:
    """All keys of one worker, including those that ended less than LINGER_SECONDS ago."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyInFlight] = {}
        self._lingering: deque[KeyInFlight] = deque()  # ordered by end time, latest last

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._keys)

    def __iter__(self) -> Iterator[KeyInFlight]:
        """Iterate over a snapshot of all keys."""
        return iter(list(self._keys.values()))

    def get(self, digest: str) -> KeyInFlight | None:
        """Return the key of *digest*."""
        return self._keys.get(digest)

    def enter(self, keyed: Keyed, policy: Policy, *, side: Side, upstream: str, now: float) -> KeyInFlight:
        """Register, at epoch second *now*, a request with the key *keyed* that is about to be sent; return the key."""
        if self._lingering:
            self._forget(now)
        key = self._keys.get(keyed.digest)
        if key is None:
            key = self._keys[keyed.digest] = KeyInFlight(keyed, policy, side=side, upstream=upstream)
        key.count += 1
        return key

    def leave(self, key: KeyInFlight, *, sent: bool, uncertain: bool, now: float) -> None:
        """Register the end of a request of *key*: whether it was *sent*, and whether its outcome is *uncertain*."""
        key.count -= 1
        key.sent |= sent
        key.uncertain |= uncertain
        if key.count:
            return
        key.claiming = False
        if key.uncertain:
            return
        if key.sent:
            key.until = now + LINGER_SECONDS
            self._lingering.append(key)
        else:
            self._drop(key)

    def pinned(self, digests: Iterable[str]) -> None:
        """Drop those of *digests* that have ended: every process has a pin for them that lasts as long."""
        for digest in digests:
            key = self._keys.get(digest)
            if key is not None and not key.count:
                self._drop(key)

    def _forget(self, now: float) -> None:
        lingering = self._lingering
        while lingering and lingering[0].until <= now:
            key = lingering.popleft()
            # A key used again meanwhile is queued again further back, or ended uncertain.
            if not key.count and not key.uncertain and key.until <= now:
                self._drop(key)

    def _drop(self, key: KeyInFlight) -> None:
        if self._keys.get(key.keyed.digest) is key:
            del self._keys[key.keyed.digest]

    def __repr__(self) -> str:
        return f"<KeysInFlight {len(self._keys)}>"
