"""The worker process: accepts caller connections, forwards requests, writes the journal; holds no signing key."""

import asyncio
import gc
import importlib
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from proxy.clock import Clock, SystemClock
from proxy.entropy import SystemEntropy
from proxy.forwarding.forward import forward
from proxy.forwarding.gateway import Gateway
from proxy.memory_protection import protect_memory
from proxy.records.journal import Journal
from proxy.records.journal_writer import reserve_of
from proxy.records.record import RecordContext
from proxy.settings.worker_values import Snapshot, decode
from proxy.telemetry.counters import Counters
from proxy.worker.acceptor import Acceptor
from proxy.worker.exchange_log import ExchangeLog
from proxy.worker.gateway_factory import caller_tls, make_gateway
from proxy.worker.graceful_close import close_gracefully
from proxy.worker.link import Link
from proxy.worker.listener import CallerServer, check_seam
from proxy.worker.migration_reporter import MigrationReporter
from proxy.worker.timeouts import CALLER_TIMEOUTS

_COUNTERS_SECONDS = 1.0
_QUIET = {"journal_problem": "", "full": False, "in_flight": 0, "connections": 0}  # for the last message
# After the listener has closed, idle connections stay open this long, since a request may be on its way on them.
_IDLE_GRACE_SECONDS = 1.0
# Listening sockets, link, journal, threads and loop use some 20; the rest is a margin.
_OWN_DESCRIPTORS = 64


class Worker:
    """One worker; the keeper controls it over the link, and it stops when the keeper is gone."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._order: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._drain: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._greeted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._handed_over = False
        self._gateway: Gateway | None = None
        self.link = Link(hear=self._hear, lost=self._keeper_is_gone)
        self._reporter = MigrationReporter(send=self.link.send)

    async def run(self) -> bool:
        """Serve until drained, then finish requests in flight; False if the journal could not be written completely."""
        order = await self._order
        if order is None:
            return True
        snapshot = decode(order["snapshot"].encode())
        counters = Counters(server_addresses={upstream.name: upstream.host for upstream in snapshot.upstreams})
        journal = _journal(snapshot, worker=order["worker"], workers=order["workers"], clock=self._clock)
        exchanges = ExchangeLog(
            snapshot.request_log, journal=journal, counters=counters, clock=self._clock, entropy=SystemEntropy()
        )
        gateway = self._gateway = make_gateway(
            snapshot, exchanges=exchanges, send=self.link.send, clock=self._clock, reporter=self._reporter
        )
        await journal.open()
        server = CallerServer(
            partial(forward, gateway=gateway),
            max_header_bytes=snapshot.server.max_header_bytes,
            max_body_bytes=snapshot.server.max_body_bytes,
            timeouts=CALLER_TIMEOUTS,
        )
        listeners = [socket.socket(fileno=descriptor) for descriptor in order["sockets"]]
        acceptor = Acceptor(server, listeners, tls=caller_tls(snapshot.server), reserve=_reserved_descriptors(snapshot))
        _freeze()
        self.link.send({"type": "ready"})
        if not await self._greeted:
            return True  # the keeper is gone; nothing was served
        acceptor.start()
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(
                self._report(counters, journal, acceptor, server), name="counters to the keeper"
            )
            grace = await self._drain
            await self._clock.sleep(grace)
            server.life.draining = True
            if self._handed_over:  # the listener belongs to another instance now, which accepts the queue
                acceptor.close()
            else:
                await close_gracefully([acceptor], listeners, clock=self._clock)
            await self._finish(server, acceptor, gateway, seconds=snapshot.server.exchange_timeout)
            # Keep sending heartbeats until all is on disk: the keeper kills a silent worker.
            written = await journal.close()
            for pool in gateway.pools.values():
                await pool.close()
            reporting.cancel()
        self._reporter.flush()
        self.link.send({"type": "counters", "delta": counters.delta()} | _QUIET)
        self.link.close()
        return written

    async def _finish(self, server: CallerServer, acceptor: Acceptor, gateway: Gateway, *, seconds: float) -> None:
        """Wait until requests in flight have ended, at most *seconds*; answer later ones with 503."""
        end = self._clock.monotonic() + seconds
        idle_end = self._clock.monotonic() + _IDLE_GRACE_SECONDS
        while (server.open_connections or server.serving or acceptor.opening) and self._clock.monotonic() < end:
            if self._clock.monotonic() >= idle_end:
                server.drain()
            await self._clock.sleep(0.02)
        gateway.admission.closed = True

    async def _report(self, counters: Counters, journal: Journal, acceptor: Acceptor, server: CallerServer) -> None:
        """Send counters each second; they are the heartbeat too, without which the keeper replaces this process."""
        while True:
            await self._clock.sleep(_COUNTERS_SECONDS)
            health = {
                "journal_problem": journal.problem,
                "full": acceptor.was_full(),
                "in_flight": server.serving,
                "connections": server.open_connections,
            }
            self.link.send({"type": "counters", "delta": counters.delta()} | health)

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "serve":
            self._order.set_result(message)
        elif kind == "drain":
            self._handed_over = message["handed_over"]
            self._stop(message["grace"])
        elif kind == "greeted":
            if not self._greeted.done():
                self._greeted.set_result(True)
        elif kind == "pin_answer":
            self._reporter.hear(message)
        elif self._gateway is not None:
            self._heed(self._gateway, message)

    def _heed(self, gateway: Gateway, message: dict[str, Any]) -> None:
        kind = message["type"]
        sides, now = gateway.migrations, self._clock.now()
        if kind in {"migrations", "pins"}:
            sides.hear(message, now)
            if message["serial"]:
                value = sides.moving(now) if kind == "migrations" else None
                self.link.send({"type": "taken", "serial": message["serial"], "value": value})
            if kind == "pins":
                self._reporter.lengthen(sides.shortened(message, now))
            self._reporter.changed()
        elif kind == "claim":
            agreed = sides.answer_claim(message["row"], now)
            self.link.send({"type": "taken", "serial": message["serial"], "value": agreed})
        elif kind == "unclaim":
            sides.drop_claim(message["digest"])
            self._reporter.changed()
        else:
            gateway.tokens.hear(message)

    def _keeper_is_gone(self) -> None:
        """Stop and finish requests in flight: without a keeper nobody renews tokens or ships the journal."""
        self._stop(0.0)
        self._reporter.abandon()
        if not self._greeted.done():
            self._greeted.set_result(False)
        if self._gateway is not None:
            self._gateway.tokens.abandon()
            self._gateway.migrations.orphaned(self._clock.monotonic())
        if not self._order.done():
            self._order.set_result(None)

    def _stop(self, grace: float) -> None:
        if not self._drain.done():
            self._drain.set_result(grace)


def _journal(snapshot: Snapshot, *, worker: str, workers: int, clock: Clock) -> Journal:
    return Journal(
        Path(snapshot.data_directory),
        worker=worker,
        context=RecordContext(
            environment=snapshot.environment,
            instance=snapshot.instance,
            config_digest=snapshot.digest,
            chain=snapshot.chain,
        ),
        durable=snapshot.request_log.durability == "intent",
        clock=clock,
        entropy=SystemEntropy(),
        spool_bytes=snapshot.request_log.spool_bytes,
        reserve=reserve_of(snapshot.request_log.spool_bytes, workers=workers),
        exchange_timeout=snapshot.server.exchange_timeout,
    )


def _reserved_descriptors(snapshot: Snapshot) -> int:
    """Return how many file descriptors are reserved and not available to callers."""
    return _OWN_DESCRIPTORS + sum(upstream.max_connections for upstream in snapshot.upstreams)


def _freeze() -> None:
    """Exclude long-lived objects from garbage collection (measured: -5 us a request, half the p99)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _leave_signals_to_the_keeper() -> None:
    """Ignore the signals that systemd and Ctrl-C send to every process: only the keeper decides when a worker stops."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop factory if the [speed] extra is installed, else asyncio's."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.new_event_loop


async def _run(descriptor: int) -> bool:
    worker = Worker(clock=SystemClock())
    end = socket.socket(fileno=descriptor)
    end.settimeout(0)
    await asyncio.get_running_loop().create_unix_connection(lambda: worker.link, sock=end)
    return await worker.run()


def main(descriptor: int) -> None:
    """Run a worker; *descriptor* is its end of the socket pair to the keeper."""
    _leave_signals_to_the_keeper()
    protect_memory()
    check_seam()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        written = runner.run(_run(descriptor))
    if not written:
        raise SystemExit(
            "payproxy: the disk of the journal does not answer; the last requests have no record in the log"
        )
