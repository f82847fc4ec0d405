"""The worker process: accepts caller connections, forwards requests, writes the journal; holds no signing key."""

import asyncio
import gc
import importlib
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.entropy import SystemEntropy
from proxy.forwarding.forward import forward
from proxy.forwarding.gateway import Gateway
from proxy.link.channel import WorkerChannel
from proxy.link.messages import (
    Accept,
    Acknowledged,
    ClaimCheck,
    ClaimDropped,
    Drain,
    Message,
    MigrationStates,
    NewPins,
    PinAnswer,
    Ready,
    RefusalAnswer,
    ReplicaContact,
    Serve,
    SignatureAnswer,
    TokenAsked,
    TokenUpdate,
    WorkerReport,
)
from proxy.link.request_counter import counter_alone, counter_at
from proxy.memory_protection import protect_memory
from proxy.records.journal import Journal
from proxy.records.journal_segments import reserve_of
from proxy.records.record import RecordContext
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.counters import Counters
from proxy.worker.acceptor import Acceptor
from proxy.worker.exchange_log import ExchangeLog
from proxy.worker.gateway_factory import caller_tls, make_gateway
from proxy.worker.graceful_close import close_gracefully
from proxy.worker.late_answers import late_answers
from proxy.worker.listener import CallerServer, check_seam
from proxy.worker.migration_reporter import MigrationReporter
from proxy.worker.signature_requests import SignatureRequests
from proxy.worker.timeouts import CALLER_TIMEOUTS

_COUNTERS_SECONDS = 1.0
# After the listener has closed, idle connections stay open this long, since a request may be on its way on them.
_IDLE_GRACE_SECONDS = 1.0
# Listening sockets, link, journal, threads and loop use some 20; the rest is a margin.
_OWN_DESCRIPTORS = 64
_NOT_WRITTEN = "payproxy: the disk of the journal does not answer; the last requests have no record in the log"


class Worker:
    """One worker; the keeper controls it over the link, and it stops when the keeper is gone."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._order: asyncio.Future[Serve | None] = asyncio.get_running_loop().create_future()
        self._drain: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._accepting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._handed_over = False
        self._gateway: Gateway | None = None
        self.unreadable = ""  # what the keeper sent that could not be read
        self.link = WorkerChannel(
            on_message=self._on_message, on_invalid=self._not_understood, on_lost=self._keeper_is_gone
        )
        self._reporter = MigrationReporter(send=self.link.send)
        self.signer = SignatureRequests(send=self.link.send)

    async def run(self) -> bool:
        """Serve until drained, then finish requests in flight; False if the journal could not be written completely."""
        order = await self._order
        if order is None:
            return True
        snapshot = order.snapshot
        counters = Counters(server_addresses={upstream.name: upstream.host for upstream in snapshot.upstreams})
        journal = _journal(snapshot, worker=order.worker, workers=order.workers, clock=self._clock)
        exchanges = ExchangeLog(
            snapshot.request_log,
            journal=journal,
            counters=counters,
            counter=counter_at(order.counter) if order.counter >= 0 else counter_alone(),
            clock=self._clock,
            entropy=SystemEntropy(),
        )
        gateway = self._gateway = make_gateway(
            snapshot,
            exchanges=exchanges,
            send=self.link.send,
            clock=self._clock,
            reporter=self._reporter,
            signer=self.signer,
        )
        await journal.open()
        server = CallerServer(
            partial(forward, gateway=gateway),
            max_header_bytes=snapshot.server.max_header_bytes,
            max_body_bytes=snapshot.server.max_body_bytes,
            certificate_refused=counters.certificate_refused,
            timeouts=CALLER_TIMEOUTS,
        )
        listeners = [socket.socket(fileno=descriptor) for descriptor in order.sockets]
        acceptor = Acceptor(
            server,
            listeners,
            tls=caller_tls(snapshot.server),
            reserve=_reserved_descriptors(snapshot),
            clock=self._clock,
        )
        _freeze()
        self.link.send(Ready())
        if not await self._accepting:
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
        self.link.send(WorkerReport(counters.delta()._replace(signatures=self.signer.refused())))
        self.link.close()
        return written

    async def _finish(self, server: CallerServer, acceptor: Acceptor, gateway: Gateway, *, seconds: float) -> None:
        """Wait until requests in flight have ended, at most *seconds*; cancel the rest, answer later ones with 503."""
        await asyncio.sleep(0)  # the loop accepts a connection one iteration before it is counted
        end = self._clock.monotonic() + seconds
        idle_end = self._clock.monotonic() + _IDLE_GRACE_SECONDS
        while (server.open_connections or server.serving or acceptor.opening) and self._clock.monotonic() < end:
            if self._clock.monotonic() >= idle_end:
                server.drain()
            await self._clock.sleep(0.02)
        gateway.admission.closed = True
        server.cancel()
        await asyncio.sleep(0)  # they end in the next iteration

    async def _report(self, counters: Counters, journal: Journal, acceptor: Acceptor, server: CallerServer) -> None:
        """Send counters each second; they are the heartbeat too, without which the keeper replaces this process."""
        while True:
            await self._clock.sleep(_COUNTERS_SECONDS)
            acceptor.look()
            late = late_answers(server.awaiting(), now=self._clock.monotonic())
            self.link.send(
                WorkerReport(
                    counters.delta()._replace(signatures=self.signer.refused()),
                    journal.problem,
                    acceptor.was_full(),
                    server.serving,
                    server.open_connections,
                    *late,
                )
            )

    def _on_message(self, message: Message) -> None:
        match message:
            case Serve():
                self._order.set_result(message)
            case Drain(grace, handed_over):
                self._handed_over = handed_over
                self._stop(grace)
            case Accept():
                if not self._accepting.done():
                    self._accepting.set_result(True)
            case PinAnswer(ask, kept):
                self._reporter.on_answer(ask, kept=kept)
            case SignatureAnswer():
                self.signer.on_answer(message)
            case ReplicaContact(until) if self._gateway is not None:
                self._gateway.migrations.set_contact(until, self._clock.monotonic())
            case _ if self._gateway is not None:
                self._update(self._gateway, message)

    def _update(self, gateway: Gateway, message: Message) -> None:
        sides, now = gateway.migrations, self._clock.now()
        match message:
            case MigrationStates(states, readable, serial):
                sides.set_states(states, readable=readable)
                if serial:
                    self.link.send(Acknowledged(serial, pins=sides.moving(now)))
            case NewPins(pins, serial):
                sides.add_pins(pins, now)
                if serial:
                    self.link.send(Acknowledged(serial))
                self._reporter.lengthen(sides.shortened(pins, now))
            case ClaimCheck(digest, pin, serial):
                self.link.send(Acknowledged(serial, agreed=sides.answer_claim(digest, pin, now)))
            case ClaimDropped(digest):
                sides.drop_claim(digest)
            case TokenUpdate():
                gateway.tokens.on_update(message)
                return
            case TokenAsked():
                gateway.tokens.on_asked(message)
            case RefusalAnswer():
                gateway.tokens.on_answer(message)
                return
        self._reporter.changed()

    def _not_understood(self, reason: str) -> None:
        """Note *reason*: without a message that can't be read, a weight or a pin may be missing, so the link ends."""
        self.unreadable = self.unreadable or reason

    def _keeper_is_gone(self) -> None:
        """Stop and finish requests in flight: without a keeper nobody renews tokens or ships the journal."""
        self._stop(0.0)
        self._reporter.abandon()
        self.signer.abandon()
        if not self._accepting.done():
            self._accepting.set_result(False)
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


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop factory if the [speed] extra is installed, else asyncio's."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.new_event_loop


async def _run(descriptor: int) -> str:
    """Run a worker and return what went wrong, "" if nothing."""
    worker = Worker(clock=SystemClock())
    end = socket.socket(fileno=descriptor)
    end.settimeout(0)
    await asyncio.get_running_loop().create_unix_connection(lambda: worker.link, sock=end)
    written = await worker.run()
    if worker.unreadable:
        why = f"its keeper sent {worker.unreadable}. The package was replaced while this instance ran"
        return f"payproxy: a worker ends, because {why}: restart payproxy"
    if not written:
        return _NOT_WRITTEN
    unsigned = worker.signer.orphaned
    return f"payproxy: the keeper is gone: {unsigned} bodies were not signed, so not sent" if unsigned else ""


def main(descriptor: int) -> None:
    """Run a worker; *descriptor* is its end of the socket pair to the keeper."""
    protect_memory()
    check_seam()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        problem = runner.run(_run(descriptor))
    if problem:
        raise SystemExit(problem)
