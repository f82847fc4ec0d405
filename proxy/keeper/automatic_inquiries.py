"""Asks the bank about requests of unknown outcome without a person, where the rule says `automatic`."""

import heapq
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from proxy.clock import Clock
from proxy.errors import LogUnavailable
from proxy.keeper.inquiries import TooManyInquiries
from proxy.keeper.inquiry import About, CantAsk, Verdict, about
from proxy.records.inquiry_outcome import SETTLED_AFTER, ended_at
from proxy.records.json_line import EXCHANGE
from proxy.records.sinks.row import decode

Ask = Callable[[About], Awaitable[Verdict]]

# One request each time: at most 10 inquiries a minute, while a person may ask 30.
LOOK_SECONDS = 6.0
# After the end of the request, and after each answer that settles nothing.
DELAYS = (SETTLED_AFTER, 300.0, 1800.0)
# Further ones are left to `payproxy reconcile`: in an outage all requests may be unknown.
MOST_WAITING = 1000

_UNKNOWN = b',"sent_upstream":"unknown",'


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    """A request to ask about *at* epoch seconds, *asked* times so far."""

    at: float
    id: str
    about: About = field(compare=False)
    asked: int = field(default=0, compare=False)


class AutomaticInquiries:
    """`add` is called in the shipper's thread, `run` in the keeper's loop. A restart forgets what was waiting.

    *ask* asks about a request and returns the verdict, or raises as `Inquiries.ask`; *wanted* returns whether requests
    of a route are to be asked about.
    """

    def __init__(
        self, ask: Ask, wanted: Callable[[str], bool], *, clock: Clock, write_line: Callable[[str], None]
    ) -> None:
        self._ask_bank = ask
        self._wanted = wanted
        self._clock = clock
        self._write_line = write_line
        self._lock = threading.Lock()
        self._waiting: list[_Due] = []

    def add(self, records: Iterable[bytes]) -> None:
        """Take note of the requests of unknown outcome among *records*, lines of the log."""
        for line in records:
            due = _due(line) if line.startswith(EXCHANGE) and _UNKNOWN in line else None
            if due is not None and self._wanted(due.about.route):
                self._put(due)

    async def run(self) -> None:
        """Ask about one request after the other, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            due = self._next()
            if due is not None:
                await self._ask(due)

    def _put(self, due: _Due) -> None:
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                heapq.heappush(self._waiting, due)

    def _next(self) -> _Due | None:
        """Take the next request that is due, if a reload has not changed what its rule wants."""
        now = self._clock.now()
        with self._lock:
            while self._waiting and self._waiting[0].at <= now:
                due = heapq.heappop(self._waiting)
                if self._wanted(due.about.route):
                    return due
        return None

    async def _ask(self, due: _Due) -> None:
        try:
            if await self._ask_bank(due.about) is not Verdict.UNCLEAR:
                return
        except (LogUnavailable, TooManyInquiries):
            pass
        except CantAsk as why:
            self._write_line(f"the bank was not asked about request {due.id}: {why}")
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves
            self._write_line(f"an inquiry about request {due.id} failed: {type(error).__name__}")
        asked = due.asked + 1
        if asked < len(DELAYS):
            self._put(replace(due, at=self._clock.now() + DELAYS[asked], asked=asked))


def _due(line: bytes) -> _Due | None:
    try:
        record = decode(line)
        return _Due(ended_at(record).timestamp() + DELAYS[0], record["id"], about(record))
    except (ValueError, KeyError, TypeError):  # a line that a failing disk has changed
        return None
