"""The newest records, and who follows them as they come: each is rendered once, however many follow."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from proxy.records.json_line import quoted
from proxy.records.query import Query, fitting
from proxy.records.sinks.row import decode

Record = dict[str, Any]
# Makes the values that are sent of a record.
Render = Callable[[Record], Mapping[str, Any]]

# For pages, and for who comes back after a moment: about 0.3 MB.
NEWEST: Final = 200
# The shipper delivers five times a second, and nobody reads faster than that.
AT_ONCE: Final = 20
# For each follower; the chunks are shared by all with the same filters.
_MOST_WAITING: Final = 8
_MOST_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Chunk:
    """*events* as they are sent, about *records* records; *last* is the number of the last record looked at."""

    events: bytes
    records: int
    last: int


class Follower:
    """Chunks that wait for one connection: a bounded number, of which the oldest is dropped for the newest."""

    def __init__(self, query: Query, *, run: str, first: Chunk) -> None:
        self.query = query
        self.changed = asyncio.Event()
        self.ended = ""
        self._run = run
        self._seen = first.last
        self._waiting: deque[Chunk] = deque([first])
        self._dropped = 0
        self.changed.set()

    def put(self, chunk: Chunk) -> None:
        """Let *chunk* wait, unless it was there when the follower came."""
        if chunk.last <= self._seen:
            return
        self._seen = chunk.last
        if not chunk.events:
            return
        if len(self._waiting) == _MOST_WAITING:
            self._dropped += self._waiting.popleft().records
        self._waiting.append(chunk)
        self.changed.set()

    def take(self) -> bytes:
        """Return the next events, b"" if none wait; first how many were dropped."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            return gap(dropped, f"{dropped} records are not shown: this page did not read fast enough.")
        return self._waiting.popleft().events if self._waiting else b""

    @property
    def position(self) -> bytes:
        """Return the event that tells how far this follower is, and that the proxy is there."""
        return _position(self._run, self._seen)

    def end(self, why: str = "gone") -> None:
        """Let the stream end: nothing more is to be sent."""
        self.ended = self.ended or why
        self.changed.set()


@dataclass(slots=True)
class _Selection:
    """What is followed with the same filters. A line without one of *needles* can't match: parsing it costs more."""

    query: Query
    needles: tuple[bytes, ...]
    followers: set[Follower] = field(default_factory=set)

    @classmethod
    def of(cls, query: Query) -> "_Selection":
        return cls(query, tuple(f'"{name}":{quoted(value)}'.encode() for name, value in query.plain))

    def matching(self, lines: Iterable[bytes]) -> list[bytes]:
        found = [line for line in lines if all(needle in line for needle in self.needles)]
        if self.query == Query():
            return found
        return [line for line in found if fitting(self.query, line) is not None]


class LiveRecords:
    """`add` is called in the shipper's thread, the rest in the keeper's loop.

    *run* names this run of the keeper in positions, which are "RUN.NUMBER OF THE RECORD".
    """

    def __init__(self, *, run: str, render: Render) -> None:
        self._run = run
        self._render = render
        self._lock = threading.Lock()
        self._count = 0
        self._newest: deque[bytes] = deque(maxlen=NEWEST)
        self._selections: dict[Query, _Selection] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<LiveRecords {self._count} records, {len(self.followers)} followers>"

    @property
    def followers(self) -> list[Follower]:
        """Return all who follow."""
        return [one for selection in self._selections.values() for one in selection.followers]

    def add(self, records: Sequence[bytes]) -> None:
        """Take new *records*, lines of the log; without followers that only keeps the newest."""
        with self._lock:
            self._count += len(records)
            self._newest.extend(records[-NEWEST:])
            last, selections, loop = self._count, list(self._selections.values()), self._loop
        if not selections or loop is None:
            return
        rendered: dict[bytes, bytes] = {}
        chunks = [(one, self._chunk(one, records, last, rendered)) for one in selections]
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_deliver, chunks)

    def newest(self, query: Query, *, most: int) -> tuple[list[Record], str]:
        """Return the newest records that match, the newest first, and the position from where to follow."""
        with self._lock:
            lines, position = list(self._newest), f"{self._run}.{self._count}"
        found = (fitting(query, line) for line in reversed(lines))
        return list(islice((record for record in found if record is not None), most)), position

    def follow(self, query: Query, position: str) -> Follower:
        """Return a new follower of what matches *query* from *position* on, "" for now."""
        self._loop = asyncio.get_running_loop()
        with self._lock:
            selection = self._selections.setdefault(query, _Selection.of(query))
            count, lines = self._count, list(self._newest)
            missed, number = self._since(position)
            chunk = self._chunk(selection, lines[len(lines) - number :], count, {})
            follower = Follower(query, run=self._run, first=Chunk(missed + chunk.events, chunk.records, count))
            selection.followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Forget *follower*."""
        with self._lock:
            selection = self._selections.get(follower.query)
            if selection is not None:
                selection.followers.discard(follower)
                if not selection.followers:
                    del self._selections[follower.query]

    def end(self, why: str) -> None:
        """End all streams."""
        for follower in self.followers:
            follower.end(why)

    def wake(self) -> None:
        """Let all streams look whether they may go on."""
        for follower in self.followers:
            follower.changed.set()

    def _since(self, position: str) -> tuple[bytes, int]:
        """Return what to say about records since *position* that are not kept any more, and how many to look at."""
        run, _, text = position.partition(".")
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            return b"", 0
        if run != self._run:
            return gap(None, "Records may be missing here: the proxy was started again meanwhile."), len(self._newest)
        new = max(0, self._count - int(text))
        lost = new - len(self._newest)
        if lost <= 0:
            return b"", new
        words = f"{lost} records, with and without these filters, came while this page was not connected."
        return gap(lost, words), len(self._newest)

    def _chunk(self, selection: _Selection, lines: Iterable[bytes], last: int, rendered: dict[bytes, bytes]) -> Chunk:
        found = selection.matching(lines)
        more = len(found) - AT_ONCE
        events = []
        if more > 0:
            events.append(gap(more, f"{more} records are not shown: more came at once than anybody can read."))
        for line in found[-AT_ONCE:]:
            if line not in rendered:
                rendered[line] = self._rendered(line)
            events.append(rendered[line])
        if events:
            events.append(_position(self._run, last))
        return Chunk(b"".join(events), len(found), last)

    def _rendered(self, line: bytes) -> bytes:
        try:
            return _event("record", self._render(decode(line)))
        except Exception:  # noqa: BLE001 - a line that a failing disk has changed must not stop the shipper
            return gap(1, "1 record can't be shown: its line in the log is damaged.")


def gap(records: int | None, text: str) -> bytes:
    """Return the event that says that *records* (None: nobody knows how many) are missing here, and why."""
    return _event("gap", {"records": records, "text": text})


def ending(why: str) -> bytes:
    """Return the last event of a stream."""
    return _event("end", {"why": why})


def _position(run: str, number: int) -> bytes:
    # Browsers keep the id, and name it when they connect again.
    return f"id: {run}.{number}\n".encode() + _event("at", {})


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    # Line breaks are escaped in JSON, so that no value can end the event.
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _deliver(chunks: Sequence[tuple[_Selection, Chunk]]) -> None:
    for selection, chunk in chunks:
        for follower in selection.followers:
            follower.put(chunk)
