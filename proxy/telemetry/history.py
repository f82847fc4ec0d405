"""What workers counted, by time: three rings of fixed size, for plots without Prometheus."""

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.events import Event, OutcomeUnknown
from proxy.link.counts import Counts
from proxy.result import result_of
from proxy.telemetry.counters import DURATION_BOUNDS, OVERHEAD_BOUNDS

# In the order of `Result`: the same classes, by the same function, as the numbers of callers.
RESULTS: Final = ("other", "held back", "failed", "client errors", "fine")
_DURATIONS: Final = len(RESULTS)
_OVERHEADS: Final = _DURATIONS + len(DURATION_BOUNDS) + 1
_WIDTH: Final = _OVERHEADS + len(OVERHEAD_BOUNDS) + 1
# Seconds of a slot, and number of slots: 10 minutes, 2 hours, 7 days. Together 0.5 MB.
RINGS: Final = ((1, 600), (10, 720), (300, 2016))
_MAGIC: Final = b"payproxy history 1 %d\n" % _WIDTH


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums of *seconds* from *start* on, epoch seconds: requests by RESULTS, and histograms with one bucket more.

    The latest sample has fewer seconds than the others: it ends now.
    """

    start: float
    seconds: float
    results: tuple[int, ...]
    durations: tuple[int, ...]
    overheads: tuple[int, ...]


class History:
    """Adds up what workers report once a second, and what killed ones had in flight. Counts beyond 2^32 are cut."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rings = [_Ring(seconds, slots) for seconds, slots in RINGS]

    def add(self, counts: Counts) -> None:
        """Add *counts* to the slots of now."""
        values = [0.0] * _WIDTH
        for one in counts.requests:
            values[result_of(one.status, one.code, bank=not one.code)] += sum(one.row[:-1])
            _sum_into(values, _DURATIONS, one.row[:-1])
        for overhead in counts.overhead:
            _sum_into(values, _OVERHEADS, overhead.row[:-1])
        self._add(values)

    def observe(self, event: Event) -> None:
        """Add the request of a killed worker, whose record is made from its intent; how long it took is not known."""
        if isinstance(event, OutcomeUnknown):
            values = [0.0] * _WIDTH
            values[result_of(0, "", bank=False)] = 1.0
            self._add(values)

    def _add(self, values: list[float]) -> None:
        if any(values):
            for ring in self._rings:
                ring.add(self._clock.now(), values)

    def samples(self, ring: int, *, number: int, together: int) -> list[Sample]:
        """Return the last *number* samples of *ring*, each of *together* slots, the oldest first; the last is now's."""
        return self._rings[ring].samples(self._clock.now(), number, together)

    def dump(self) -> bytes:
        """Return all of it, to be loaded after a restart."""
        body = b"".join(ring.dump() for ring in self._rings)
        return _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body

    def load(self, data: bytes) -> bool:
        """Take over what `dump` returned; False, with nothing changed, if *data* is damaged or of another version."""
        begin = len(_MAGIC) + 4
        body = data[begin:]
        checksum = zlib.crc32(body).to_bytes(4, "big")
        if data[:begin] != _MAGIC + checksum or len(body) != sum(ring.size for ring in self._rings):
            return False
        for ring in self._rings:
            ring.load(body[: ring.size])
            body = body[ring.size :]
        return True


class _Ring:
    """Slots of *seconds*; a slot holds the sums of its latest turn, whose number is beside it."""

    def __init__(self, seconds: int, slots: int) -> None:
        self._seconds = seconds
        self._slots = slots
        self._turns = array("Q", bytes(8 * slots))
        self._values = array("I", bytes(4 * slots * _WIDTH))

    @property
    def size(self) -> int:
        """Return the bytes of a dump."""
        return self._slots * (8 + 4 * _WIDTH)

    def add(self, now: float, values: Sequence[float]) -> None:
        turn = int(now) // self._seconds
        slot = turn % self._slots
        begin = slot * _WIDTH
        if self._turns[slot] != turn:
            self._turns[slot] = turn
            self._values[begin : begin + _WIDTH] = array("I", bytes(4 * _WIDTH))
        for place, value in enumerate(values, begin):
            if value:
                self._values[place] = min(self._values[place] + int(value), 0xFFFFFFFF)

    def samples(self, now: float, number: int, together: int) -> list[Sample]:
        last = int(now) // self._seconds // together
        return [self._sample(one * together, together, now) for one in range(last - number + 1, last + 1)]

    def dump(self) -> bytes:
        return self._turns.tobytes() + self._values.tobytes()

    def load(self, data: bytes) -> None:
        self._turns = array("Q", data[: 8 * self._slots])
        self._values = array("I", data[8 * self._slots :])

    def _sample(self, first: int, together: int, now: float) -> Sample:
        sums = [0] * _WIDTH
        for turn in range(first, first + together):
            slot = turn % self._slots
            if self._turns[slot] == turn:
                begin = slot * _WIDTH
                sums = [one + more for one, more in zip(sums, self._values[begin : begin + _WIDTH], strict=True)]
        return Sample(
            first * self._seconds,
            max(1.0, min(together * self._seconds, now - first * self._seconds)),
            tuple(sums[:_DURATIONS]),
            tuple(sums[_DURATIONS:_OVERHEADS]),
            tuple(sums[_OVERHEADS:]),
        )


def quantile(share: float, buckets: Sequence[int], bounds: Sequence[float]) -> float:
    """Return the value below which *share* of the observations are, by linear interpolation as Prometheus does it.

    *buckets* are numbers of observations up to each of *bounds*, and one more. 0 without observations.
    """
    rank = share * sum(buckets)
    if not rank:
        return 0.0
    below = 0.0
    for number, bound in zip(buckets, bounds, strict=False):
        if number and rank <= number:
            return below + (bound - below) * rank / number
        rank -= number
        below = bound
    return bounds[-1]


def _sum_into(values: list[float], at: int, row: Sequence[float]) -> None:
    for place, value in enumerate(row, at):
        values[place] += value
