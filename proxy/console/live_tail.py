"""The live tail: a page of the newest records that match, and the stream of those that come."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlencode

from aiohttp import web

from proxy.clock import Clock
from proxy.console.answers import Refused, event_stream
from proxy.console.live_records import Follower, LiveRecords, Record, ending
from proxy.console.page import Cell, PageContent, Table, Tone
from proxy.console.request_pages import COLUMNS, row
from proxy.console.request_pages import PATH as REQUESTS
from proxy.console.search_form import Field, FilterUnusable, filled, query_of
from proxy.console.sign_in import SignIn
from proxy.records.query import Query
from proxy.text import printable

PATH = f"{REQUESTS}/tail"
EVENTS = f"{PATH}/events"
# Until the next event each stream looks so often whether its session and its reader are still there.
LOOK_SECONDS = 5.0
# A stream of which so much was not read gets nothing more; if that lasts, it ends.
MOST_UNREAD_BYTES = 8192
UNREAD_SECONDS = 20.0
# What a browser waits before it connects again.
_RETRY = b"retry: 2000\n\n"
_ROWS = 50
# A record that comes now is of no past time, and nobody can have resolved it.
_NOT_LIVE = frozenset({"since", "until", "open"})


class HoldOpen(Protocol):
    """Lets the connection of a request last, if there is a place for it; *lost* is called when it is gone."""

    def __call__(self, request: web.BaseRequest, lost: Callable[[], None]) -> bool:
        """Return whether there was a place."""


def rendered(record: Record) -> Mapping[str, Any]:
    """Return what the script shows of *record*: the same cells as in a search."""
    cells = zip(COLUMNS, row(record), strict=True)
    return {"id": record.get("id", ""), "cells": [_cell(name, one) for name, one in cells]}


def _cell(name: str, one: Cell) -> dict[str, Any]:
    text = printable(one.text, other="\N{REPLACEMENT CHARACTER}", keep="\n")
    return {"name": name, "text": text, "tone": one.tone, "href": one.href, "number": one.number}


class LiveTail:
    """Pages and streams of *records*."""

    def __init__(self, records: LiveRecords, *, sign_in: SignIn, hold_open: HoldOpen, clock: Clock) -> None:
        self._records = records
        self._sign_in = sign_in
        self._hold_open = hold_open
        self._clock = clock
        self._watch: asyncio.Task[None] | None = None

    def page(self, request: web.Request) -> PageContent:
        """Return the page of the newest records that match the filters of *request*."""
        fields = _fields(request)
        try:
            query = self._query(fields)
        except FilterUnusable as error:
            return tail_page((), error.shown or fields, position="", problem=str(error))
        records, position = self._records.newest(query, most=_ROWS)
        return tail_page(records, fields, position=position)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with the stream of the records that match, until somebody ends it. Raises Refused."""
        try:
            query = self._query(_fields(request))
        except FilterUnusable as error:
            raise Refused(400, str(error)) from None
        position = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        follower = self._records.follow(query, position)
        try:
            if not self._hold_open(request, follower.end):
                raise Refused(503, "Too many live tails are open: close one, or try again.", retry_after=15)
            self._watch_followers()
            answer = event_stream()
            with suppress(ConnectionError):  # the reader has gone
                await answer.prepare(request)
                await answer.write(_RETRY)
                await self._send(request, answer, follower)
        finally:
            self._records.leave(follower)
        return answer

    def _query(self, fields: Sequence[Field]) -> Query:
        return query_of(fields, now=self._clock.now())

    async def _send(self, request: web.Request, answer: web.StreamResponse, follower: Follower) -> None:
        """Send what comes; return when the stream has ended or nobody reads it."""
        unread_since: float | None = None
        while True:
            await follower.changed.wait()
            follower.changed.clear()
            if not self._sign_in.is_signed_in(request):
                follower.end("session")
            if follower.ended:
                await answer.write(ending(follower.ended))
                return
            await _send_what_waits(request, answer, follower)
            if not _has_unread(request):
                unread_since = None
                continue
            now = self._clock.monotonic()
            unread_since = now if unread_since is None else unread_since
            if now - unread_since >= UNREAD_SECONDS:
                _abort(request)
                return

    def _watch_followers(self) -> None:
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_again(), name="live tails")

    async def _look_again(self) -> None:
        while self._records.followers:
            await self._clock.sleep(LOOK_SECONDS)
            self._records.wake()


def tail_page(records: Sequence[Record], fields: Sequence[Field], *, position: str, problem: str = "") -> PageContent:
    """Return the page of the newest *records*, which its script goes on with from *position*.

    *problem* is why there is nothing to follow.
    """
    filters = {one.name: one.value for one in fields if one.value}
    asked = f"?{urlencode(filters)}" if filters else ""
    table = Table(title="Newest first", columns=COLUMNS, rows=tuple(map(row, records)), empty="")
    return PageContent(
        path=REQUESTS,
        title="Live tail",
        twin=f"{PATH}.json{asked}",
        data={"records": records, "position": position},
        lead=problem,
        tone=Tone.BAD if problem else Tone.PLAIN,
        status=400 if problem else 200,
        template="tail.html",
        more={
            "fields": [one for one in fields if one.name not in _NOT_LIVE],
            "action": PATH,
            "again": f"{PATH}{asked}",
            "search": f"{REQUESTS}{asked}",
            "table": None if problem else table,
            "events": f"{EVENTS}?{urlencode(filters | {'after': position})}",
        },
    )


async def _send_what_waits(request: web.Request, answer: web.StreamResponse, follower: Follower) -> None:
    sent = False
    while not _has_unread(request):
        events = follower.take()
        if events:
            await answer.write(events)
        elif sent:
            return
        else:
            await answer.write(follower.position)
            return
        sent = True


def _has_unread(request: web.Request) -> bool:
    return request.transport is not None and request.transport.get_write_buffer_size() >= MOST_UNREAD_BYTES


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _fields(request: web.Request) -> tuple[Field, ...]:
    return filled({name: value for name, value in request.query.items() if name not in _NOT_LIVE})
