"""The keeper process: holds the keys, mints, serves the admin listener, ships the journals, keeps the workers."""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import fan_out
from proxy.keeper.admin import Action, AdminApp, Refused
from proxy.keeper.admin_server import AdminServer, server_tls
from proxy.keeper.mints import Mints
from proxy.keeper.sockets import Sockets
from proxy.keeper.workers import WorkerProcess, Workers
from proxy.records.record import RecordContext
from proxy.records.shipper import Shipper
from proxy.records.sinks.file import FileSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.stdout import StdoutSink
from proxy.routing.compile import route_table
from proxy.settings.address import listen_address
from proxy.settings.sections import Settings
from proxy.settings.snapshot import Snapshot
from proxy.telemetry.counters import DeltaUnusable
from proxy.telemetry.log import EventLog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import CertificateStatus, Status

# Load balancers need some seconds to see that an instance is not ready; on loopback there is none.
_GRACE_SECONDS = 5.0
# What workers get beyond exchange_timeout before they are killed.
_KILL_AFTER_SECONDS = 5.0


class Keeper:
    """One running instance; *sockets* are open already, *credentials* are read, *certificates* are those in use."""

    def __init__(
        self,
        settings: Settings,
        snapshot: Snapshot,
        *,
        sockets: Sockets,
        credentials: Mapping[str, Credential],
        certificates: Sequence[CertificateStatus],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._sockets = sockets
        self._certificates = tuple(certificates)
        self._clock = clock
        self._began = clock.monotonic()
        self._draining = False
        self._asks: set[asyncio.Task[None]] = set()
        self._log = EventLog(clock=clock, write=_stderr_line)
        self._metrics = Metrics(status=self.status)
        observe = fan_out(self._metrics.observe, self._log.observe)
        self._mints = Mints(
            route_table(snapshot),
            credentials,
            clock=clock,
            entropy=entropy,
            observe=observe,
            broadcast=self._broadcast,
        )
        self._shipper = Shipper(
            Path(snapshot.data_directory),
            sinks=_sinks(settings),
            clock=clock,
            observe=observe,
            context=RecordContext(
                environment=snapshot.environment, instance=snapshot.instance, config_digest=snapshot.digest
            ),
        )
        self._workers = Workers(
            sockets.number,
            snapshot=snapshot,
            sockets=sockets,
            clock=clock,
            observe=observe,
            hear=self._hear,
            greetings=self._mints.messages,
            ended=self._shipper.worker_ended,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then let every request in flight end; raises what the listeners raise."""
        settings, snapshot = self._settings, self._snapshot
        admin = settings.admin
        server = AdminServer(
            AdminApp(
                status=self.status, metrics=self._metrics, hosts=admin.hosts, actions=self._actions()
            ).application(),
            directory=Path(snapshot.data_directory),
            listen=listen_address(admin.listen) if admin.listen else None,
            tls=server_tls(Path(admin.certificate_file), Path(admin.key_file)) if admin.certificate_file else None,
        )
        async with server, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._shipper.run(), name="shipper")
            minting = tasks.create_task(self._mints.run(), name="mints")
            stopping = tasks.create_task(self._stop_on_signal(), name="stop on signal")
            self._log.say(
                f"payproxy {version('payproxy')} ({snapshot.environment}) serves callers on "
                f"{', '.join(self._sockets.addresses)}; admin on {_places(server)}"
            )
            await self._workers.run()
            for task in (stopping, minting):
                task.cancel()
            await self._shipper.close()
        self._log.say("payproxy has stopped: every request that came in was answered and recorded")

    def status(self) -> Status:
        """Return the instance at this instant, for health, metrics and pages."""
        return Status(
            environment=self._snapshot.environment,
            instance=self._snapshot.instance,
            version=version("payproxy"),
            config_digest=self._snapshot.digest,
            uptime=self._clock.monotonic() - self._began,
            draining=self._draining,
            journal_problem="" if self._workers.journals_usable else "a worker's journal can't be written",
            workers_wanted=self._workers.number,
            workers=self._workers.statuses(),
            tokens=self._mints.statuses(),
            ready_requires=self._settings.admin.ready_requires,
            certificates=self._certificates,
            journal_backlog=self._shipper.backlog_records,
            log_dropped=tuple(self._shipper.dropped.items()),
        )

    def _actions(self) -> dict[str, Action]:
        return {
            "/api/tokens/retry": Action(
                what='try to mint at once, as after `payproxy token`: {"credential": NAME, "audience": AUDIENCE}',
                act=self._retry_tokens,
            )
        }

    def _retry_tokens(self, values: dict[str, Any]) -> dict[str, Any]:
        credential, audience = values.get("credential"), values.get("audience")
        if not isinstance(credential, str) or not isinstance(audience, str | None):
            raise Refused(400, "bad_request", "credential and audience are names.")
        retried = self._mints.retry(credential, audience)
        if retried:
            self._log.say(f"back-off cleared on request: {credential}, {retried} tokens")
        return {"retried": retried}

    async def _stop_on_signal(self) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()
        grace = 0.0 if self._snapshot.server.loopback else _GRACE_SECONDS
        self._draining = True
        self._log.say(f"stopping: the listener closes in {grace:.0f} s, then what is in flight ends")
        self._workers.drain(grace=grace)
        await self._clock.sleep(grace)
        self._sockets.close()
        await self._clock.sleep(self._snapshot.server.exchange_timeout + _KILL_AFTER_SECONDS)
        self._workers.kill()

    def _broadcast(self, message: dict[str, Any]) -> None:
        self._workers.broadcast(message)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """Take what a worker says; one that talks nonsense must not take the keeper down."""
        try:
            self._obey(worker, message)
        except (KeyError, TypeError, DeltaUnusable) as error:
            self._log.say(f"worker {worker.index} sent what is no message: {type(error).__name__}")

    def _obey(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message["type"]:
            case "refused":
                task = asyncio.get_running_loop().create_task(self._answer(worker, message), name="refused token")
                self._asks.add(task)
                task.add_done_callback(self._asks.discard)
            case "replayed":
                self._mints.replayed(message["key"], message["route"], refused_again=message["refused_again"])
            case "counters":
                self._metrics.add(message["delta"])
                worker.journal_usable = message["journal_usable"]

    async def _answer(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        outcome = await self._mints.replace(message["key"], message["mint"], message["route"])
        worker.send({"type": "answer", "ask": message["ask"], "outcome": outcome})


def _places(server: AdminServer) -> str:
    return ", ".join([*(f"{host}:{port}" for host, port in server.addresses), f"unix:{server.socket_path}"])


def _sinks(settings: Settings) -> list[Sink]:
    log = settings.request_log
    sinks: list[Sink] = []
    if log.stdout:
        sinks.append(StdoutSink())
    if log.file:
        sinks.append(FileSink(Path(log.file)))
    return sinks


def _stderr_line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
