"""Retry pins in little memory: two million of them take some 30 MB, in the keeper and in each worker; no I/O."""

from array import array
from bisect import bisect_left
from collections import Counter
from typing import Final

from proxy.migration.pin import DIGEST_DIGITS, PASSING, Reason, RetryPin
from proxy.migration.side import Side

# A day of payments that all end with a 5xx, at 23 a second.
MOST_PINS: Final = 2_000_000
# So many sorted arrays share the digests: with two million pins each has some 2,000, and to insert one moves 16 KB.
_SHARD_BITS: Final = 10
SHARDS: Final = 1 << _SHARD_BITS
_SHARD_SHIFT: Final = 64 - _SHARD_BITS
# Pins are counted, and given up, by the minute in which they end.
_BUCKET_SECONDS: Final = 60
# At the bound a hundredth is given up at once, so that it does not happen with every pin.
_GIVEN_UP_AT_ONCE: Final = 100

_UNKNOWN: Final = Reason.UNKNOWN.value

# What a pin says beside its end: migration, side, upstream, reason.
_Place = tuple[str, str, str, str]


class PinTable:
    """Pins by digest; the end of a pin is kept in whole seconds, rounded up.

    At *most* pins the oldest of those go first whose outcome is not unknown, then the oldest of all; of the second
    kind `given_up_until` says until when a retry that should have had one can come.
    """

    def __init__(self, *, most: int = MOST_PINS) -> None:
        self.given_up_until = 0.0
        self._most = most
        self._digests: list[array[int]] = [array("Q") for _ in range(SHARDS)]
        self._ends: list[array[int]] = [array("I") for _ in range(SHARDS)]
        self._places: list[array[int]] = [array("H") for _ in range(SHARDS)]
        self._known_places: list[_Place] = []
        self._place_numbers: dict[_Place, int] = {}
        # By minute: how many pins of a place end in it.
        self._counts: Counter[tuple[int, int]] = Counter()
        self._size = 0
        self._next_shard = 0
        # Pins that end in these minutes or before are given up: no longer counted, and removed shard by shard.
        self._known_gone = -1
        self._all_gone = -1
        self._shards_to_clear = 0

    def __len__(self) -> int:
        """Return how many pins there are, those that have ended since the last `forget_ended` among them."""
        return self._size

    def get(self, digest: str, now: float) -> RetryPin | None:
        """Return the pin of *digest* if it holds at epoch second *now*."""
        number = int(digest[:DIGEST_DIGITS], 16)
        shard = number >> _SHARD_SHIFT
        at = self._at(shard, number)
        if at < 0 or self._ends[shard][at] <= now or self._is_gone(shard, at):
            return None
        return self._pin(shard, at)

    def put(self, digest: str, pin: RetryPin) -> None:
        """Keep *pin* in place of what there was for *digest*."""
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
        """Drop what has ended by epoch second *now*, looking at the next *shards* of the 1024 parts."""
        for _ in range(shards):
            shard, self._next_shard = self._next_shard, (self._next_shard + 1) % SHARDS
            ends = self._ends[shard]
            if len(ends) and min(ends) <= now:
                for at in range(len(ends)):
                    if ends[at] <= now and not self._is_gone(shard, at):
                        self._count(self._places[shard][at], ends[at], -1)
                self._keep_only(shard, [at for at in range(len(ends)) if ends[at] > now])

    def shard(self, shard: int) -> list[tuple[str, RetryPin]]:
        """Return the pins in one of the SHARDS parts, with their digests."""
        digests = self._digests[shard]
        return [
            (f"{digests[at]:016x}", self._pin(shard, at)) for at in range(len(digests)) if not self._is_gone(shard, at)
        ]

    def open_pins(self, migration: str, now: float, *, in_flight: bool = False) -> dict[str, tuple[int, float]]:
        """Return by side how many pins of *migration* hold at *now*, and until when the last of them does.

        Those are uncertain ends, or tries *in_flight*.
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

    def _place_number(self, place: _Place) -> int:
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
        """Return whether the pin was given up and is only still to be removed."""
        if self._all_gone < 0 and self._known_gone < 0:
            return False
        minute = (self._ends[shard][at] - 1) // _BUCKET_SECONDS
        if minute <= self._all_gone:
            return True
        return minute <= self._known_gone and self._known_places[self._places[shard][at]][3] != _UNKNOWN

    def _clear(self, shard: int) -> None:
        """Remove from one shard what was given up."""
        size = len(self._ends[shard])
        kept = [at for at in range(size) if not self._is_gone(shard, at)]
        if len(kept) < size:
            self._keep_only(shard, kept)

    def _give_up(self) -> None:
        """Make room: of the pins whose outcome is not unknown the minutes that end first, else of all.

        The arrays follow shard by shard.
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
        while self._shards_to_clear:  # what an earlier time left
            self._shards_to_clear -= 1
            self._clear(self._shards_to_clear)
        self._shards_to_clear = SHARDS

    def _last_minute(self, wanted: int, *, known: bool) -> int:
        """Return up to which minute pins have to go so that *wanted* go; -1 if there are too few of them."""
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
