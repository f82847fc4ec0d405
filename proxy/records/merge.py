"""Move records from the workers' journals into the keeper's stream; all calls run in the shipper's thread."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.records.journal_tail import JournalTail
from proxy.records.segment import JOURNALS, segments
from proxy.records.stream import Position, Progress, Stream
from proxy.records.unanswered import lost_in, requests_of, route_of

# The lock file shows that a worker is dead even if no one reports it: after a kill of the keeper itself.
LIVENESS_SECONDS = 1.0

# Takes for each the members retry, side, upstream and time (records/unanswered.py).
Uncertain = Callable[[list[dict[str, Any]]], None]
# Takes records that are in the stream now.
Recorded = Callable[[list[bytes]], None]


@dataclass(slots=True)
class _Found:
    """New *records*, those of them that no worker completed, and by worker how many requests its records stand for.

    *complete*: these are all.
    """

    records: list[bytes] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    complete: bool = True


class Merger:
    """Reads all journals below *data_directory* and removes from them what is on disk in the stream.

    *delivered* returns the position that all sinks have reached. *uncertain* gets the exchanges whose retry must go to
    the same side, before they are in the stream, *recorded* all new records after that. What they raise is in `defect`.
    """

    def __init__(
        self,
        data_directory: Path,
        stream: Stream,
        *,
        clock: Clock,
        delivered: Callable[[], Position],
        uncertain: Uncertain = lambda _: None,
        recorded: Recorded = lambda _: None,
    ) -> None:
        self._directory = data_directory / JOURNALS
        self._stream = stream
        self._clock = clock
        self._delivered = delivered
        self._uncertain = uncertain
        self._recorded = recorded
        self._progress: Progress | None = None
        self._tails: dict[str, JournalTail] = {}
        self._ended: set[str] = set()
        # By worker, how many requests its records in the stream stand for; the event loop's thread adds and removes.
        self._counts: dict[str, int] = {}
        self._liveness_at = 0.0
        self.trouble: OSError | None = None
        # Why *uncertain* or *recorded* did not take some lines: a defect of ours, which must not end the keeper.
        self.defect: Exception | None = None
        # The routes of exchanges that an ended worker had in flight: the event loop's thread takes from it.
        self.unanswered: deque[str] = deque()
        # How many records are lost, as new records say: likewise.
        self.lost: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<Merger {len(self._tails)} journals>"

    @property
    def opened(self) -> bool:
        """Return whether the stream is open."""
        return self._progress is not None

    def open(self) -> None:
        """Open the stream; raises OSError."""
        self._progress = self._stream.open()

    def end(self, worker: str) -> None:
        """Note that *worker* has ended: the next `pump` completes its open exchanges."""
        self._ended.add(worker)

    def count(self, worker: str) -> None:
        """Count the requests that the records of *worker* stand for, from before it begins any."""
        self._counts[worker] = 0

    def counted(self, worker: str) -> int:
        """Return how many requests of *worker*, which has ended, have records in the stream, and forget it."""
        return self._counts.pop(worker, 0)

    def append(self, records: list[bytes]) -> None:
        """Append the keeper's own *records*, lines without line feed, to the stream; raises OSError."""
        self._stream.append(records, self._progress or Progress())

    def pump(self) -> bool:
        """Move some records; return whether those were all. Raises OSError; then nothing has moved.

        An unreadable journal does not block the others: `trouble` has the error, and the next call tries again.
        """
        listed = self._listed()
        found = self._read(listed)
        records = found.records
        try:
            uncertain = [one for tail in self._tails.values() for one in tail.take_uncertain()]
            self._tell_uncertain(uncertain)
            removable = [tail for tail in self._tails.values() if tail.mark_removable()]
            if records or (removable and self._current() != self._progress):
                progress = self._current()
                self._stream.append(records, progress)
                self._progress = progress
                self._tell_recorded(records)
            self.unanswered.extend(map(route_of, found.unanswered))
            if lost := lost_in(records):
                self.lost.append(lost)
        except OSError:
            # The tails are ahead of the stream now: drop them, and resume from the stream's progress mark.
            self._tails.clear()
            raise
        for worker, number in found.counts.items():
            self._counts[worker] = self._counts.get(worker, 0) + number
        if removable and self._may_remove():
            for tail in removable:
                if tail.remove():
                    self._drop(tail.worker)
            self._progress = self._current()
        gone = [worker for worker, tail in self._tails.items() if tail.ended and worker not in listed]
        for worker in gone:
            self._drop(worker)
        if gone:
            self._progress = self._current()
        return found.complete

    def pin_in_flight(self) -> bool:
        """Pass what an earlier keeper's workers have in flight to *uncertain*; return whether any of them is alive."""
        found = [one for tail in self._tails.values() for one in tail.in_flight()]
        self._tell_uncertain(found)
        return any(tail.worker_runs() for tail in self._tails.values() if not tail.ended)

    def _tell_uncertain(self, found: list[dict[str, Any]]) -> None:
        """Pass on *found*; if that fails each by itself, so that no line costs other retries their side."""
        try:
            if found:
                self._uncertain(found)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - no line of a worker may end the keeper
            self.defect = error
            if len(found) > 1:
                for one in found:
                    self._tell_uncertain([one])

    def _tell_recorded(self, records: list[bytes]) -> None:
        try:
            self._recorded(records)
        except Exception as error:  # noqa: BLE001 - as above
            self.defect = error

    def _read(self, listed: dict[str, list[int]]) -> _Found:
        """Return new records of all readable journals."""
        result = _Found()
        self.trouble = None
        for worker, tail in list(self._tails.items()):
            try:
                found, read = tail.read(sorted(listed.get(worker, [])))
            except OSError as error:
                self.trouble = error
                self._tails[worker] = self._new_tail(worker)
                continue
            if read and tail.ended:
                unanswered = tail.unanswered(ended=self._clock.now())
                found += unanswered
                result.unanswered += unanswered
            result.records += found
            result.complete = result.complete and read
            if found and worker in self._counts:
                result.counts[worker] = sum(map(requests_of, found))
        return result

    def _listed(self) -> dict[str, list[int]]:
        """Return the segments of each worker; creates tails for new workers and marks ended ones."""
        listed: dict[str, list[int]] = defaultdict(list)
        for worker, number in segments(self._directory):
            listed[worker].append(number)
        progress = self._progress or Progress()
        # A worker without a segment may be about to write lines again that were read in its removed ones.
        read = {name.rpartition("-")[0] for name in progress.journals}
        for worker in listed.keys() | progress.carried.keys() | read:
            if worker not in self._tails:
                self._tails[worker] = self._new_tail(worker)
        now = self._clock.monotonic()
        look = now >= self._liveness_at
        if look:
            self._liveness_at = now + LIVENESS_SECONDS
        for worker, tail in self._tails.items():
            if not tail.ended and (worker in self._ended or (look and not tail.worker_runs())):
                tail.ended = True
        if any(tail.ended for tail in self._tails.values()):
            # List again: an ended worker's last lines may be in a segment opened since.
            listed.clear()
            for worker, number in segments(self._directory):
                listed[worker].append(number)
        return listed

    def _new_tail(self, worker: str) -> JournalTail:
        """Return a tail that continues where the stream's progress is."""
        progress = self._progress or Progress()
        carried = progress.carried.get(worker, [])
        return JournalTail(self._directory, worker, positions=progress.journals, carried=carried)

    def _current(self) -> Progress:
        return Progress(
            journals={name: at for tail in self._tails.values() for name, at in tail.positions.items()},
            carried={tail.worker: carried for tail in self._tails.values() if (carried := tail.carried)},
        )

    def _may_remove(self) -> bool:
        """Return whether what was read is safe: synced in the stream or, if that failed, taken by every sink."""
        self._stream.sync()
        return self._delivered() >= self._stream.suspect

    def _drop(self, worker: str) -> None:
        del self._tails[worker]
        self._ended.discard(worker)
