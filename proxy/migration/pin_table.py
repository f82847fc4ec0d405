"""Compact table of retry pins: two million take about 30 MB, in the keeper and in each worker; no I/O."""

from array import array
from bisect import bisect_left
from collections import Counter
from typing import Final

from proxy.migration.pin import DIGEST_DIGITS, PASSING, Reason, RetryPin
from proxy.migration.side import Side

# A day of payments that all end with a 5xx, at 23 a second.
MOST_PINS: Final = 2_000_000
# Number of sorted arrays (shards): with two million pins each has some 2,000, and an insertion moves 16 KB.
_SHARD_BITS: Final = 10
SHARDS: Final = 1 << _SHARD_BITS
_SHARD_SHIFT: Final = 64 - _SHARD_BITS
# Pins are counted and evicted by the minute in which they end.
_BUCKET_SECONDS: Final = 60
# At the limit a hundredth is evicted at once, so that not every new pin causes an eviction.
_GIVEN_UP_AT_ONCE: Final = 100

_UNKNOWN: Final = Reason.UNKNOWN.value

# The fields of a pin besides its end: migration, side, upstream, reason.
_Target = tuple[str, str, str, str]


class PinTable:
    """Pins by digest; ends are whole seconds, rounded up.

    At *most* pins, those with a reason other than UNKNOWN are evicted first, oldest first, then the oldest of all. In
    the second case `given_up_until` is the time until which a retry of an evicted pin may arrive.
    """

    def __init__(self, *, most: int = MOST_PINS) -> None:
        self.given_up_until = 0.0
        self._most = most
        self._digests: list[array[int]] = [array("Q") for _ in range(SHARDS)]
        self._ends: list[array[int]] = [array("I") for _ in range(SHARDS)]
        self._places: list[array[int]] = [array("H") for _ in range(SHARDS)]
        self._known_places: list[_Target] = []
        self._place_numbers: dict[_Target, int] = {}
        # Number of pins by (place, minute of their end).
        self._counts: Counter[tuple[int, int]] = Counter()
        self._size = 0
        self._next_shard = 0
        # Pins that end in these minutes or earlier are evicted: no longer counted, and removed shard by shard.
        self._known_gone = -1
        self._all_gone = -1
        self._shards_to_clear = 0

    def __len__(self) -> int:
        """Return the number of pins, including those that ended since the last `forget_ended`."""
        return self._size

    def get(self, digest: str, now: float) -> RetryPin | None:
        """Return the pin of *digest* if it is valid at epoch second *now*."""
        number = int(digest[:DIGEST_DIGITS], 16)
        shard = number >> _SHARD_SHIFT
        at = self._at(shard, number)
        if at < 0 or self._ends[shard][at] <= now or self._is_gone(shard, at):
            return None
        return self._pin(shard, at)

    def put(self, digest: str, pin: RetryPin) -> None:
        """Store *pin*, replacing any pin of *digest*."""
        number = int(digest[:DIGEST_DIGITS], 16)
        shard = number >> _SHARD_SHIFT
        digests, ends, places = self._digests[shard], self._ends[shard], self._places[shard]
        place = self._place_number((pin.migration, pin.side.value, pin.upstream, pin.reason.value))
        end = min(0xFFFFFFFF, int(pin.until) + (0 if pin.until == int(pin.until) else 1))
        at = bisect_left(digests, number)
        if at < len(digests) and digests[at] == number:
            if not self._is_gone(shard, at):
                self._count(places[at], ends[at], -1)
            ends[at], places[at] = end, place
        else:
            digests.insert(at, number)
            ends.insert(at, end)
            places.insert(at, place)
        if self._is_gone(shard, at):
            return
        self._count(place, end, 1)
        if self._size > self._most:
            self._give_up()
        elif self._shards_to_clear:
            self._shards_to_clear -= 1
            self._clear(self._shards_to_clear)

    def forget_ended(self, now: float, *, shards: int = SHARDS) -> None:
        """Remove pins that ended by epoch second *now* from the next *shards* of the 1024 shards."""
        for _ in range(shards):
            shard, self._next_shard = self._next_shard, (self._next_shard + 1) % SHARDS
            ends = self._ends[shard]
            if len(ends) and min(ends) <= now:
                for at in range(len(ends)):
                    if ends[at] <= now and not self._is_gone(shard, at):
                        self._count(self._places[shard][at], ends[at], -1)
                self._keep_only(shard, [at for at in range(len(ends)) if ends[at] > now])

    def shard(self, shard: int) -> list[tuple[str, RetryPin]]:
        """Return the pins of one shard, with their digests."""
        digests = self._digests[shard]
        return [
            (f"{digests[at]:016x}", self._pin(shard, at)) for at in range(len(digests)) if not self._is_gone(shard, at)
        ]

    def open_pins(self, migration: str, now: float, *, in_flight: bool = False) -> dict[str, tuple[int, float]]:
        """Return, per side, how many pins of *migration* are valid at *now* and when the last one ends.

        Counts either pins with an uncertain outcome or, with *in_flight*, those of attempts in flight.
        """
        found: dict[str, tuple[int, float]] = {}
        for (place, minute), count in self._counts.items():
            name, side, _, reason = self._known_places[place]
            end = float((minute + 1) * _BUCKET_SECONDS)
            if name == migration and end > now and (reason in PASSING) is in_flight:
                number, until = found.get(side, (0, 0.0))
                found[side] = (number + count, max(until, end))
        return found

    def _at(self, shard: int, number: int) -> int:
        digests = self._digests[shard]
        at = bisect_left(digests, number)
        return at if at < len(digests) and digests[at] == number else -1

    def _pin(self, shard: int, at: int) -> RetryPin:
        migration, side, upstream, reason = self._known_places[self._places[shard][at]]
        return RetryPin(Side(side), upstream, float(self._ends[shard][at]), migration, Reason(reason))

    def _place_number(self, place: _Target) -> int:
        number = self._place_numbers.get(place)
        if number is None:
            number = self._place_numbers[place] = len(self._known_places)
            self._known_places.append(place)
        return number

    def _count(self, place: int, end: int, by: int) -> None:
        key = (place, (end - 1) // _BUCKET_SECONDS)
        self._counts[key] += by
        if not self._counts[key]:
            del self._counts[key]
        self._size += by

    def _keep_only(self, shard: int, kept: list[int]) -> None:
        digests, ends, places = self._digests[shard], self._ends[shard], self._places[shard]
        self._digests[shard] = array("Q", [digests[at] for at in kept])
        self._ends[shard] = array("I", [ends[at] for at in kept])
        self._places[shard] = array("H", [places[at] for at in kept])

    def _is_gone(self, shard: int, at: int) -> bool:
        """Return whether the pin is evicted but not yet removed."""
        if self._all_gone < 0 and self._known_gone < 0:
            return False
        minute = (self._ends[shard][at] - 1) // _BUCKET_SECONDS
        if minute <= self._all_gone:
            return True
        return minute <= self._known_gone and self._known_places[self._places[shard][at]][3] != _UNKNOWN

    def _clear(self, shard: int) -> None:
        """Remove the evicted pins of one shard."""
        size = len(self._ends[shard])
        kept = [at for at in range(size) if not self._is_gone(shard, at)]
        if len(kept) < size:
            self._keep_only(shard, kept)

    def _give_up(self) -> None:
        """Evict the minutes that end first: of pins with a reason other than UNKNOWN if these suffice, else of all.

        The pins are removed from the arrays later, shard by shard.
        """
        wanted = self._most // _GIVEN_UP_AT_ONCE + 1
        known = self._last_minute(wanted, known=True)
        if known >= 0:
            self._known_gone = max(self._known_gone, known)
        else:
            self._all_gone = max(self._all_gone, self._last_minute(wanted, known=False))
            self.given_up_until = max(self.given_up_until, float((self._all_gone + 1) * _BUCKET_SECONDS))
        for place, minute in [*self._counts]:
            if minute <= self._all_gone or (minute <= self._known_gone and self._known_places[place][3] != _UNKNOWN):
                self._size -= self._counts.pop((place, minute))
        while self._shards_to_clear:  # left over from an earlier eviction
            self._shards_to_clear -= 1
            self._clear(self._shards_to_clear)
        self._shards_to_clear = SHARDS

    def _last_minute(self, wanted: int, *, known: bool) -> int:
        """Return the minute up to which pins must go to evict *wanted* of them; -1 if there are too few."""
        by_minute: Counter[int] = Counter()
        for (place, minute), count in self._counts.items():
            if not known or self._known_places[place][3] != _UNKNOWN:
                by_minute[minute] += count
        found = 0
        for minute in sorted(by_minute):
            found += by_minute[minute]
            if found >= wanted:
                return minute
        return -1

    def __repr__(self) -> str:
        return f"<PinTable {self._size} pins>"
