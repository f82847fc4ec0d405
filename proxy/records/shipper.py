"""The keeper's side of the request log: reads the workers' journals and delivers their records to the sinks."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from proxy.clock import Clock
from proxy.events import (
    Observer,
    OutcomeUnknown,
    RecordsLost,
    RecordsNotEvaluated,
    SinkFailed,
    SinkRecovered,
    StreamFailed,
    StreamRecovered,
)
from proxy.records.audit_records import SignedCheckpoints
from proxy.records.merge import Merger, Recorded, Uncertain
from proxy.records.outlet import Outlet, SinkState
from proxy.records.segment import STREAM
from proxy.records.sink_positions import SinkPositions
from proxy.records.sinks.sink import Sink, cause_of
from proxy.records.stream import Position, Stream

Result = TypeVar("Result")

# A poll wakes two threads and a loop: 0.5 ms, however little there is to move.
POLL_SECONDS = 0.2
IDLE_POLL_SECONDS = 0.25
FAILED_POLL_SECONDS = 1.0
# A worker without keeper writes no intent with a retry key later than half of this (migration/side_cache.py).
ORPHAN_SECONDS = 1.0
# Each step reads, chains and writes what fits a processor's cache (journal_tail.MOST_BYTES_AT_ONCE); so many steps run
# before sinks are notified.
MOST_AT_ONCE = 4
LONGEST_PAUSE_SECONDS = 5.0
# Records that a killed keeper delivered since the last saved positions come again, with the same ids.
SAVE_SECONDS = 1.0
# At most this much of the chain's end is unsigned.
CHECKPOINT_SECONDS = 60.0


class Shipper:
    """Moves records from the journals below *data_directory* into one stream, and from there to each sink separately.

    Delivery is at least once: after a crash a record may come twice, with the same id. An unavailable sink delays only
    the deletion of files. All file work runs in one thread, so that nothing blocks the keeper's loop; *uncertain* and
    *recorded* (see `Merger`) are called in that thread.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        sinks: Sequence[Sink],
        clock: Clock,
        observe: Observer,
        checkpoints: SignedCheckpoints | None = None,
        uncertain: Uncertain = lambda _: None,
        recorded: Recorded = lambda _: None,
    ) -> None:
        self._checkpoints = checkpoints
        self._outlets = [Outlet(sink=sink) for sink in sinks]
        self._clock = clock
        self._observe = observe
        self._stream = Stream(data_directory / STREAM)
        self._positions = SinkPositions(
            data_directory / STREAM, targets={sink.name: str(getattr(sink, "target", "")) for sink in sinks}
        )
        self._merger = Merger(
            data_directory,
            self._stream,
            clock=clock,
            delivered=self._delivered,
            uncertain=uncertain,
            recorded=recorded,
        )
        self._save_at = 0.0
        self._loaded = False
        self._started = False
        self._failed = False
        self._defect_told = False
        self._signed = 0
        self._sign_at = clock.monotonic() + CHECKPOINT_SECONDS
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="shipper")
        self._closing = False
        self._read_all = False
        self._closing_seconds = 0.0
        self._running = False
        self.caught_up = False
        self._stopped = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Shipper {self._stream!r} {len(self._outlets)} sinks, {self.backlog_records} records behind>"

    @property
    def backlog_records(self) -> int:
        """Return the number of stream records that the slowest sink has not taken yet."""
        return max((one.backlog for one in self.sinks), default=0)

    @property
    def sinks(self) -> list[SinkState]:
        """Return the state of each sink."""
        return [outlet.state(self._stream.end) for outlet in self._outlets]

    async def run(self) -> None:
        """Ship until `close` is called."""
        if self._stopped.is_set():
            return
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                # Sinks start as soon as their positions are loaded: on a full disk nothing else frees space.
                while not (await self._pump() or self._loaded or self._closing):
                    await self._clock.sleep(FAILED_POLL_SECONDS)
                feeds = [
                    tasks.create_task(self._feed(outlet), name=f"sink {outlet.sink.name}") for outlet in self._outlets
                ]
                await self._follow()
                self._read_all = True
                self._wake_feeds()
                if feeds:
                    _, late = await asyncio.wait(feeds, timeout=self._closing_seconds)
                    for feed in late:
                        feed.cancel()
        finally:
            await self._end()

    async def begin(self) -> None:
        """Read what an earlier run left in the journals; `caught_up` is set after this or a later attempt succeeds.

        Its workers may live on for a while to finish requests in flight: those records are read too.
        """
        await self._pump()
        if await self._in_thread(self._merger.pin_in_flight):
            await self._clock.sleep(ORPHAN_SECONDS)
            await self._pump()
            await self._in_thread(self._merger.pin_in_flight)

    async def worker_ended(self, worker: str) -> bool:
        """Complete what the ended *worker* had in flight as "unknown"; return whether its journal could be read."""
        self._merger.end(worker)
        return await self._pump() and self._merger.trouble is None

    def count(self, worker: str) -> None:
        """Count the requests that the records of *worker* stand for, from before it begins any."""
        self._merger.count(worker)

    def counted(self, worker: str) -> int:
        """Return how many requests of *worker*, which has ended, have records, and count no more."""
        return self._merger.counted(worker)

    async def close(self, *, seconds: float = 2.0) -> None:
        """Ship what there is, give sinks *seconds*, and let `run` return; the rest is kept for later."""
        self._closing_seconds = seconds
        self._closing = True
        if self._running:
            await self._stopped.wait()
        else:
            await self._end()

    async def _follow(self) -> None:
        pause = POLL_SECONDS
        while not self._closing:
            before = self._stream.end
            fine = await self._pump()
            pause = POLL_SECONDS if self._stream.end != before else min(IDLE_POLL_SECONDS, pause * 1.5)
            await self._clock.sleep(pause if fine else FAILED_POLL_SECONDS)
        if await self._pump():
            try:
                await self._in_thread(self._end_chain)
            except OSError as error:
                self._report(error)

    async def _pump(self) -> bool:
        """Move everything in the journals into the stream; return whether that succeeded."""
        try:
            while not await self._in_thread(self._pump_once):
                self._wake_feeds()
        except OSError as error:
            self._report(error)
            return False
        else:
            # Records that could not be synced still go to the sinks, and so do the journals that can be read.
            self._report(self._stream.trouble or self._merger.trouble)
            while self._merger.unanswered:
                self._observe(OutcomeUnknown(route=self._merger.unanswered.popleft()))
            while self._merger.lost:
                self._observe(RecordsLost(count=self._merger.lost.popleft()))
            self.caught_up = True
            return True
        finally:
            # What is in the stream goes to the sinks, even if a later step (positions, removal) failed.
            self._wake_feeds()
            defect = self._merger.defect
            if defect is not None and not self._defect_told:
                self._defect_told = True
                self._observe(RecordsNotEvaluated(cause=cause_of(defect)))

    def _report(self, error: OSError | None) -> None:
        """Report that the keeper's files started to fail with *error*, or that they recovered."""
        if error is not None and not self._failed:
            cause = error.strerror or type(error).__name__
            self._observe(StreamFailed(cause=f"{cause} ({error.filename})" if error.filename else cause))
        elif error is None and self._failed:
            self._observe(StreamRecovered())
        self._failed = error is not None

    def _pump_once(self) -> bool:
        """Do one round of file work, in the thread; return whether the journals are read to their ends."""
        if not self._merger.opened:
            self._merger.open()
            positions = self._positions.load([outlet.sink.name for outlet in self._outlets], self._stream)
            for outlet in self._outlets:
                outlet.position = positions[outlet.sink.name]
            self._loaded = True
            self._save_positions()
        if not self._started:
            if self._checkpoints is not None:
                self._merger.append([self._checkpoints.start()])
            self._started = True
        now = self._clock.monotonic()
        try:
            complete = any(self._merger.pump() for _ in range(MOST_AT_ONCE))
            if now >= self._sign_at:
                self._sign_at = now + CHECKPOINT_SECONDS
                self._sign_checkpoint()
        finally:
            self._stream.sync()
            if now >= self._save_at:
                self._save_at = now + SAVE_SECONDS
                # First delete what every sink has, whatever failed: on a full disk that frees the space for the rest.
                # Positions older than the oldest kept record make a sink start there.
                self._stream.forget(self._delivered().segment)
                self._save_positions()
        return complete

    def _end_chain(self) -> None:
        """Append a stop record and a signed checkpoint."""
        if self._checkpoints is not None:
            self._merger.append([self._checkpoints.stop()])
            self._sign_checkpoint()
            self._stream.sync()

    def _sign_checkpoint(self) -> None:
        """Append a signed checkpoint if records were added since the last one."""
        end = self._stream.end.sequence
        if self._checkpoints is not None and end > self._signed:
            self._merger.append([self._checkpoints.checkpoint(end, self._stream.hash)])
            self._signed = self._stream.end.sequence

    def _save_positions(self) -> None:
        self._positions.save({outlet.sink.name: outlet.position for outlet in self._outlets})

    def _delivered(self) -> Position:
        """Return the position that every sink has reached."""
        return min((outlet.position for outlet in self._outlets), default=self._stream.end)

    def _wake_feeds(self) -> None:
        for outlet in self._outlets:
            outlet.delivered.set()

    async def _feed(self, outlet: Outlet) -> None:
        """Deliver the stream to one sink, batch by batch, as fast as it takes them."""
        pause = POLL_SECONDS
        while True:
            outlet.delivered.clear()
            last = self._read_all
            try:
                found = self._stream.fresh(outlet.position)
                if found is None:
                    found = await self._in_thread(lambda: self._stream.read(outlet.position))
                batch, position = found
                if batch:
                    await outlet.sink.write(batch)
            except Exception as error:  # noqa: BLE001 - a sink's defect must not stop the keeper and the other sinks
                if not outlet.failing:
                    self._observe(SinkFailed(sink=outlet.sink.name, cause=cause_of(error)))
                outlet.failing = cause_of(error)
                await self._clock.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                continue
            outlet.position = position
            if not batch:
                if last:
                    return
                await outlet.delivered.wait()
                continue
            pause = POLL_SECONDS
            if outlet.failing:
                outlet.failing = ""
                self._observe(SinkRecovered(sink=outlet.sink.name))

    async def _end(self) -> None:
        if self._stopped.is_set():
            return
        try:
            for outlet in self._outlets:
                with contextlib.suppress(Exception):  # close the others, too
                    await outlet.sink.close()
            if self._merger.opened:
                with contextlib.suppress(OSError):
                    await self._in_thread(self._save_positions)
            await self._in_thread(self._stream.close)
            await asyncio.to_thread(self._executor.shutdown)
        finally:
            self._stopped.set()

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)
