"""The connection pool of one bank base URL: reuses idle connections, opens new ones, limits their number."""

import asyncio
import contextlib
from collections import deque

from proxy.clock import Clock
from proxy.errors import Overloaded
from proxy.upstream.connection import Connection
from proxy.upstream.errors import unsent
from proxy.upstream.opener import Opener, Upstream
from proxy.upstream.resolver import Lookup, system_lookup


class Pool:
    """Hands out connections to one upstream, at most max_connections at a time.

    Raises tls.TlsUnusable if the upstream's certificate files can't be used.
    """

    def __init__(self, upstream: Upstream, *, clock: Clock, lookup: Lookup = system_lookup) -> None:
        self._upstream = upstream
        self._monotonic = clock.monotonic
        self._opener = Opener(upstream, clock=clock, lookup=lookup, home=self)
        self.origin = self._opener.origin
        self._idle: deque[Connection] = deque()  # last in, first out, so that surplus ones reach the idle timeout
        self._open: set[Connection] = set()
        self._slots = 0  # connections idle, in use and being opened
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        idle = len(self._idle)
        return f"<Pool {self.origin} [{self._slots - idle} in use, {idle} idle, {len(self._waiting)} waiting]>"

    def idle(self) -> Connection | None:
        """Return a pooled connection that is open, has no unexpected data and is not too old, or None."""
        idle = self._idle
        if not idle:
            return None
        now = self._monotonic()
        while idle:
            connection = idle.pop()
            if connection.take(now):
                return connection
        return None

    async def connect(self) -> Connection:
        """Return an idle connection or a new one.

        Raises Overloaded if no slot becomes free within connect_timeout, and UpstreamUnreachable if name look-up, TCP,
        egress proxy and TLS fail or together take longer than it.
        """
        connection = self.idle()
        if connection is not None:
            return connection
        connection = await self._in_task()
        # A connection passed by another request may be closed meanwhile; nothing was sent on it.
        return connection if not connection.closed else await self._in_task()

    async def _in_task(self) -> Connection:
        """Run `_connect` in a task: time-outs need one and a request has none (see `InlineRun`)."""
        task = asyncio.get_running_loop().create_task(self._connect())
        try:
            return await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().release()
            raise

    async def _connect(self) -> Connection:
        connection = self.idle()  # one may have been returned before this task started
        if connection is not None:
            return connection
        if self._slots < self._upstream.max_connections:
            self._slots += 1
        else:
            connection = await self._wait_for_slot()
            if connection is not None:
                return connection
        try:
            return await self._opened()
        except BaseException:
            self._free_slot()
            raise

    async def close(self) -> None:
        """Close all connections, also those in use, and wait until their sockets are closed."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        for connection in tuple(self._open):
            connection.abort()  # frees its slot and wakes the first waiter, which finds the pool closed, and so on
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    # Called by connections.

    def put_back(self, connection: Connection) -> None:
        """Keep *connection*, or pass it to the longest waiter."""
        if self._closed:
            connection.close()
        elif not self._waiting:
            self._idle.append(connection)
        elif connection.take(self._monotonic()) and not self._hand_over(connection):
            connection.release()

    def free_slot_of(self, connection: Connection) -> None:
        """Free the slot of *connection*."""
        if connection in self._open:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
            self._free_slot()

    def socket_closed(self, connection: Connection) -> None:
        """Remove *connection*, whose socket is closed."""
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    # Slots.

    async def _wait_for_slot(self) -> Connection | None:
        """Wait for a connection, or for a free slot to open one (None)."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=self._upstream.connect_timeout)
        except asyncio.CancelledError:
            if waiter.done():
                given = waiter.result()
                if given is None:
                    self._free_slot()
                else:
                    given.release()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
        if not waiter.done():
            waiter.cancel()
            raise Overloaded("All connections to the bank are in use", retry_after=1)
        return waiter.result()

    def _hand_over(self, given: Connection | None) -> bool:
        """Pass a connection or a slot (None) to the longest waiter; return False if there is no waiter."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def _free_slot(self) -> None:
        if not self._hand_over(None):
            self._slots -= 1

    async def _opened(self) -> Connection:
        """Open a connection in a slot that is already counted."""
        if self._closed:
            raise unsent("the pool is closed")
        started = self._monotonic()
        connection = await self._opener.open()
        if self._closed or connection.closed:
            connection.abort()
            raise unsent("closed as soon as it was open")
        connection.connect_ms = (self._monotonic() - started) * 1000
        self._open.add(connection)
        return connection
