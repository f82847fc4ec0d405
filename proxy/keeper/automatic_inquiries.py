"""Asks the bank about requests of unknown outcome without a person, where the rule says `automatic`."""

import heapq
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from proxy.clock import Clock
from proxy.errors import MALFORMED, LogUnavailable
from proxy.keeper.inquiries import TooManyInquiries
from proxy.keeper.inquiry import About, CantAsk, Verdict, about
from proxy.keeper.open_requests import UNKNOWN
from proxy.records.inquiry_outcome import SETTLED_AFTER, Record, ended_at, may_have_changed
from proxy.records.json_line import EXCHANGE
from proxy.records.query import ArchiveUnusable
from proxy.records.sinks.row import decode
from proxy.settings.stores import UrlUnusable

Ask = Callable[[About], Awaitable[Verdict]]
# Returns at most that many requests that are still open, each with the inquiries that were made about it.
Find = Callable[[int], Awaitable[Iterable[tuple[Record, Sequence[Record]]]]]

# One request each time: at most 10 inquiries a minute, while a person may ask 30.
LOOK_SECONDS = 6.0
# After the end of the request, and after each answer that settles nothing.
DELAYS = (SETTLED_AFTER, 300.0, 1800.0)
# Further ones are left to `payproxy reconcile`: in an outage all requests may be unknown.
MOST_WAITING = 1000
# If the log can't be read at the start.
FIND_AGAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    """A request to ask about *at* epoch seconds, *asked* times so far."""

    at: float
    id: str
    about: About = field(compare=False)
    asked: int = field(default=0, compare=False)


class AutomaticInquiries:
    """`add` is called in the shipper's thread, `run` in the keeper's loop. No request is waiting twice.

    *ask* asks about a request and returns the verdict, or raises as `Inquiries.ask`; *wanted* returns whether requests
    of a route are to be asked about. *find* finds what was waiting when the instance ended.
    """

    def __init__(
        self, ask: Ask, wanted: Callable[[str], bool], *, find: Find, clock: Clock, write_line: Callable[[str], None]
    ) -> None:
        self._ask_bank = ask
        self._wanted = wanted
        self._find = find
        self._clock = clock
        self._write_line = write_line
        self._lock = threading.Lock()
        self._waiting: list[_Due] = []
        self._known: set[str] = set()  # the ids of those that wait or are being asked about

    def add(self, records: Iterable[bytes]) -> None:
        """Take note of the requests of unknown outcome among *records*, lines of the log."""
        for line in records:
            due = _due(line) if line.startswith(EXCHANGE) and UNKNOWN in line else None
            if due is not None and self._wanted(due.about.route):
                self._take(due)

    async def run(self) -> None:
        """Ask about one request after the other, also about those of the last run, until cancelled."""
        find_at = self._clock.monotonic()
        while True:
            if self._clock.monotonic() >= find_at:
                find_at = math.inf if await self._recall() else self._clock.monotonic() + FIND_AGAIN_SECONDS
            await self._clock.sleep(LOOK_SECONDS)
            due = self._next()
            if due is not None:
                await self._ask(due)

    async def _recall(self) -> bool:
        """Take what was waiting when the instance ended; return whether the log could be read."""
        try:
            for record, inquiries in await self._find(MOST_WAITING):
                due = _still_due(record, len(inquiries), last=str(inquiries[-1]["time"]) if inquiries else "")
                if due is not None and self._wanted(due.about.route):
                    self._take(due)
        except (ArchiveUnusable, UrlUnusable) as error:
            cause = str(error)
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves
            cause = f"a defect of the proxy: {type(error).__name__}"
        else:
            return True
        self._write_line(f"requests of unknown outcome of the last run are not asked about: {cause}")
        return False

    def _take(self, due: _Due) -> None:
        with self._lock:
            if len(self._known) < MOST_WAITING and due.id not in self._known:
                self._known.add(due.id)
                heapq.heappush(self._waiting, due)

    def _put_back(self, due: _Due) -> None:
        with self._lock:
            heapq.heappush(self._waiting, due)

    def _forget(self, due: _Due) -> None:
        with self._lock:
            self._known.discard(due.id)

    def _next(self) -> _Due | None:
        """Take the next request that is due, if a reload has not changed what its rule wants."""
        now = self._clock.now()
        with self._lock:
            while self._waiting and self._waiting[0].at <= now:
                due = heapq.heappop(self._waiting)
                if self._wanted(due.about.route):
                    return due
                self._known.discard(due.id)
        return None

    async def _ask(self, due: _Due) -> None:
        try:
            if await self._ask_bank(due.about) is not Verdict.UNCLEAR:
                self._forget(due)
                return
        except (LogUnavailable, TooManyInquiries):
            pass
        except CantAsk as why:
            self._write_line(f"the bank was not asked about request {due.id}: {why}")
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves
            self._write_line(f"an inquiry about request {due.id} failed: {type(error).__name__}")
        asked = due.asked + 1
        if asked < len(DELAYS):
            self._put_back(replace(due, at=self._clock.now() + DELAYS[asked], asked=asked))
        else:
            self._forget(due)


def _due(line: bytes) -> _Due | None:
    try:
        return _still_due(decode(line), 0)
    except MALFORMED:  # a line that a failing disk has changed
        return None


def _still_due(record: Record, asked: int, *, last: str = "") -> _Due | None:
    """Return when to ask about the exchange *record*, asked about *asked* times, at *last*; None: no more."""
    if asked >= len(DELAYS):
        return None
    try:
        if not may_have_changed(record):
            return None
        since = datetime.fromisoformat(last) if asked else ended_at(record)
        return _Due(since.timestamp() + DELAYS[asked], str(record["id"]), about(record), asked)
    except MALFORMED:  # as above
        return None
