"""Keys in flight: the requests with a retry key that this worker has sent, or may send now, and to which side."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.migration.former import Keyed
from proxy.migration.pin import Reason
from proxy.migration.side import Policy, Side

# A caller that gives up while its answer is on the way sends again at once: the network's delay, and some more.
LINGER_SECONDS: Final = 10.0


class KeyInFlight:
    """One retry key: *count* requests with it are being served, all of them to *upstream* on *side*.

    *sent*: the bank may have one of them. *uncertain*: one has ended, and its caller does not know how. *claiming*: its
    side is about to change, once all other processes agree; or they did not, or not in time, and its request ends.
    *passing*: why there is a pin that may be more than it needs. *until*: how long it counts after its end (epoch
    seconds).
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
    """All keys of one worker, those among them that ended less than LINGER_SECONDS ago."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyInFlight] = {}
        self._lingering: deque[KeyInFlight] = deque()  # the one that ended last comes last

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._keys)

    def __iter__(self) -> Iterator[KeyInFlight]:
        """Iterate over all keys as they are now."""
        return iter(list(self._keys.values()))

    def get(self, digest: str) -> KeyInFlight | None:
        """Return the key that *digest* names."""
        return self._keys.get(digest)

    def enter(self, keyed: Keyed, policy: Policy, *, side: Side, upstream: str, now: float) -> KeyInFlight:
        """Note, at epoch second *now*, that a request with the key *keyed* is going to be sent; return the key."""
        if self._lingering:
            self._forget(now)
        key = self._keys.get(keyed.digest)
        if key is None:
            key = self._keys[keyed.digest] = KeyInFlight(keyed, policy, side=side, upstream=upstream)
        key.count += 1
        return key

    def leave(self, key: KeyInFlight, *, sent: bool, uncertain: bool, now: float) -> None:
        """Note that a request of *key* has ended: *sent* to the bank or not, and whether its caller knows how."""
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
        """Forget those of *digests* that have ended: every process has a pin for them that ends no sooner."""
        for digest in digests:
            key = self._keys.get(digest)
            if key is not None and not key.count:
                self._drop(key)

    def _forget(self, now: float) -> None:
        lingering = self._lingering
        while lingering and lingering[0].until <= now:
            key = lingering.popleft()
            # One that was used again meanwhile stands further back once more, or ended uncertain.
            if not key.count and not key.uncertain and key.until <= now:
                self._drop(key)

    def _drop(self, key: KeyInFlight) -> None:
        if self._keys.get(key.keyed.digest) is key:
            del self._keys[key.keyed.digest]

    def __repr__(self) -> str:
        return f"<KeysInFlight {len(self._keys)}>"
