"""The keeper process: holds the keys, mints tokens, runs the admin server, ships the journals, supervises workers."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from proxy.clock import Clock, timestamp
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import Event, WorkerEnded, fan_out
from proxy.hot_path import built
from proxy.keeper.admin import Action, ActionRefused, AdminApp
from proxy.keeper.admin_server import AdminServer, server_tls
from proxy.keeper.audit_log import AuditLog
from proxy.keeper.certificate_expiry import CertificateExpiry
from proxy.keeper.certificates import certificates_in_use
from proxy.keeper.exit_timer import CLOSING_SECONDS, ExitTimer
from proxy.keeper.facade_keys import assertion_keys, make_signing_key
from proxy.keeper.generation import Generation
from proxy.keeper.generations import KILL_AFTER_SECONDS, Generations
from proxy.keeper.guard_task import MigrationGuard
from proxy.keeper.log_sinks import sinks_of
from proxy.keeper.migration_actions import migration_actions
from proxy.keeper.migrations import ConfigurationObjected, Migrations
from proxy.keeper.reload import Reloader
from proxy.keeper.rotation import Prover, Rotation
from proxy.keeper.shared_state import mask_alike, replication_of
from proxy.keeper.sockets import Sockets
from proxy.migration.outcome import ExchangeOutcome
from proxy.records.chain_id import chain_id
from proxy.records.record import RecordContext
from proxy.records.shipper import Shipper
from proxy.records.sinks.stdout import Render
from proxy.settings.addresses import listen_address
from proxy.settings.load import Loaded
from proxy.settings.model import Settings
from proxy.settings.values import masked, snapshot_of
from proxy.telemetry.log import EventLog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status, TokenStatus

# Time for load balancers to see that the instance is not ready; not used if the server listens on loopback.
_GRACE_SECONDS = 5.0
_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 0.1


class Keeper:
    """One running instance with the name *instance*; *sockets* are already open, *credentials* already loaded.

    *read* reads the configuration again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance: str,
        sockets: Sockets,
        credentials: Mapping[str, Credential],
        read: Callable[[], Loaded],
        clock: Clock,
        entropy: Entropy,
        render: Render | None = None,
        stamp: Callable[[float], str] = timestamp,
    ) -> None:
        snapshot = snapshot_of(settings, instance=instance)
        self._instance = instance
        self._chain = chain_id(Path(snapshot.data_directory), entropy=entropy)
        self._sockets = sockets
        self._certificates = certificates_in_use(settings)
        self._clock = clock
        self._entropy = entropy
        self._serial = count(1)
        self._started = clock.monotonic()
        self._draining = False
        self._unread_journals: set[str] = set()
        self._in_order = True  # every request received was answered and recorded
        self._log = EventLog(clock=clock, write=_stderr_line, stamp=stamp)
        self._exit_timer = ExitTimer(Path(snapshot.data_directory), write_line=self._log.write_line)
        self._metrics = Metrics(status=self.status)
        context = RecordContext(
            environment=snapshot.environment,
            instance=snapshot.instance,
            config_digest=snapshot.digest,
            chain=self._chain,
        )
        mask_alike(settings, entropy=entropy)
        self._audit_log = AuditLog(
            Path(snapshot.data_directory),
            context=context,
            version=version("payproxy"),
            spool_bytes=snapshot.request_log.spool_bytes,
            clock=clock,
            entropy=entropy,
        )
        observe = self._observe = fan_out(
            self._metrics.observe, self._log.observe, self._audit_log.observe, self._note_exit
        )
        self._migrations = Migrations(
            Path(snapshot.data_directory),
            clock=clock,
            operated=self._audit_log.operated,
            broadcast=lambda message: self._generations.broadcast(message),  # noqa: PLW0108 - created later
            tokens=self._tokens,
            recovered=lambda: self._shipper.caught_up,
            write_line=self._log.write_line,
            kill=lambda worker: self._generations.kill_worker(worker),  # noqa: PLW0108 - created later
        )
        self._migrations.replication = replication_of(
            settings,
            host=instance,
            weights=self._migrations.weights,
            pins=self._migrations.pins,
            clock=clock,
            entropy=entropy,
        )
        self._guard = MigrationGuard(self._migrations, tokens=self._tokens, clock=clock, observe=observe)
        self._shipper = Shipper(
            Path(snapshot.data_directory),
            sinks=[
                *sinks_of(settings, environ=os.environ, clock=clock, write_line=self._log.write_line, render=render)
            ],
            clock=clock,
            observe=observe,
            checkpoints=self._audit_log.checkpoints,
            uncertain=self._migrations.pins.keep_uncertain,
        )
        self._generations = Generations(self._generation(settings, credentials), clock=clock)
        lock = asyncio.Lock()  # one generation change at a time
        self._reloader = Reloader(
            read=read,
            make=self._generation,
            generations=self._generations,
            prover=Prover(clock=clock, entropy=entropy, observe=observe),
            taken=self._taken,
            objection=lambda new: self._migrations.objection(snapshot_of(new, instance=instance)),
            hand_over=lambda new: self._migrations.hand_over(snapshot_of(new, instance=instance)),
            lock=lock,
            clock=clock,
            observe=observe,
        )
        self._rotation = Rotation(
            token_manager=lambda: self._generations.current.token_manager,
            renew=self._reloader.renew,
            replaced=self._read_certificates,
            lock=lock,
            clock=clock,
            entropy=entropy,
            observe=observe,
        )
        self._rotation.follow(settings)
        self._expiry = CertificateExpiry(lambda: self._certificates, clock=clock, observe=observe)

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT, drain, and return whether every request was recorded.

        Raises what the listeners raise.
        """
        settings, snapshot = self._generations.current.settings, self._generations.current.snapshot
        admin = settings.admin
        server = AdminServer(
            AdminApp(
                status=self.status,
                metrics=self._metrics,
                hosts=admin.hosts,
                actions=self._actions(),
                operated=self._audit_log.operated,
                configuration=lambda: masked(self._generations.current.settings),
            ).application(),
            directory=Path(snapshot.data_directory),
            listen=listen_address(admin.listen) if admin.listen else None,
            tls=server_tls(Path(admin.certificate_file), Path(admin.key_file)) if admin.certificate_file else None,
        )
        await self._audit_log.open()
        await self._migrations.open()
        await self._migrations.replication.begin()
        if objection := self._migrations.objection(snapshot):
            raise ConfigurationObjected(objection)
        await self._migrations.follow(snapshot.migrations, snapshot.routes)
        self._guard.follow(settings, snapshot)
        self._audit_log.configured(masked(settings), digest=snapshot.digest)
        async with server, asyncio.TaskGroup() as tasks:
            # Read journals of a crashed run first: their unanswered requests give retry pins needed before serving.
            await self._shipper.begin()
            tasks.create_task(self._shipper.run(), name="shipper")
            recovering = tasks.create_task(self._read_journals_again(), name="journals of lost workers")
            looking = tasks.create_task(self._migrations.run(), name="migrations")
            sharing = tasks.create_task(self._migrations.replication.run(), name="replicas")
            guarding = tasks.create_task(self._guard.run(), name="guard")
            rotating = tasks.create_task(self._rotation.run(), name="rotation")
            expiring = tasks.create_task(self._expiry.run(), name="expiry of certificates")
            reloading = tasks.create_task(self._reload_on_signal(), name="reload on signal")
            stopping = tasks.create_task(self._stop_on_signal(), name="stop on signal")
            announcing = tasks.create_task(self._announce(server), name="announcement")
            await self._generations.run()
            self._exit_timer.start()
            for task in (announcing, stopping, reloading, rotating, expiring, looking, guarding, sharing, recovering):
                task.cancel()
            self._in_order &= await self._audit_log.close()
            await self._shipper.worker_ended(self._audit_log.journal_name)
            await self._shipper.close()
        everything = "every request that came in was answered and recorded"
        self._log.write_line(
            f"payproxy has stopped: {everything if self._in_order else f'not {everything}, see above'}"
        )
        return self._in_order

    async def _announce(self, server: AdminServer) -> None:
        """Log the listening addresses as soon as the first worker can serve."""
        await self._sockets.opened.wait()
        self._log.write_line(
            f"payproxy {version('payproxy')} ({self._generations.current.snapshot.environment}, {built()}) serves "
            f"callers on {', '.join(self._sockets.addresses)}; admin on {server.places}"
        )

    async def close(self) -> None:
        """Close everything that was opened, however far `run` came."""
        await self._generations.current.token_manager.close()
        await self._audit_log.close()
        await self._shipper.close()
        await self._migrations.close()

    def status(self) -> Status:
        """Return the current state of the instance for health, metrics and pages."""
        current, alive = self._generations.current, self._generations.alive
        return Status(
            environment=current.snapshot.environment,
            instance=self._instance,
            version=version("payproxy"),
            config_digest=current.snapshot.digest,
            uptime=self._clock.monotonic() - self._started,
            draining=self._draining,
            journal_problem=next(filter(None, (one.workers.journal_problem for one in alive)), ""),
            reload_problem="; ".join(filter(None, [self._reloader.problem, *self._rotation.problems.values()])),
            workers_wanted=current.workers.number,
            workers=tuple(worker for one in alive for worker in one.workers.statuses()),
            tokens=current.token_manager.statuses(),
            ready_requires=current.settings.admin.ready_requires,
            certificates=tuple(one.at(self._clock.now()) for one in self._certificates),
            journal_backlog=self._shipper.backlog_records,
            log_dropped=tuple(self._shipper.dropped.items()),
            migrations=self._migrations.states(),
            migration_problem=self._migrations.problem,
            routes=tuple(route.name for route in current.snapshot.routes),
            facade=current.snapshot.facade is not None,
        )

    def _tokens(self) -> Iterable[TokenStatus]:
        return self._generations.current.token_manager.statuses()

    def _generation(self, settings: Settings, credentials: Mapping[str, Credential]) -> Generation:
        make_signing_key(settings, entropy=self._entropy)
        return Generation(
            settings,
            snapshot_of(settings, instance=self._instance, chain=self._chain, assertion_keys=assertion_keys(settings)),
            credentials,
            sockets=self._sockets,
            metrics=self._metrics,
            clock=self._clock,
            entropy=self._entropy,
            observe=self._observe,
            write_line=self._log.write_line,
            ended=self._worker_ended,
            migrations=self._migrations,
            migrated=self._migrated,
            serial=self._serial,
        )

    async def _taken(self, generation: Generation) -> None:
        """Apply the settings of *generation*, which now serves, to the other components."""
        await self._migrations.follow(generation.snapshot.migrations, generation.snapshot.routes)
        self._guard.follow(generation.settings, generation.snapshot)
        self._audit_log.configured(masked(generation.settings), digest=generation.snapshot.digest)
        await asyncio.to_thread(self._rotation.follow, generation.settings)
        await self._read_certificates()

    async def _read_certificates(self) -> None:
        self._certificates = await asyncio.to_thread(certificates_in_use, self._generations.current.settings)
        self._expiry.look()

    def _note_exit(self, event: Event) -> None:
        """Note that, while stopping, a worker was killed or could not write its journal."""
        if isinstance(event, WorkerEnded) and self._draining and event.exit_code and event.served:
            self._in_order = False

    async def _worker_ended(self, worker: str) -> None:
        self._migrations.answers.ended(worker)
        if await self._shipper.worker_ended(worker):
            self._migrations.answers.recovered(worker)
        else:
            self._unread_journals.add(worker)

    async def _read_journals_again(self) -> None:
        """Retry journals that could not be read when their worker ended: only they show what it had in flight."""
        while True:
            await self._clock.sleep(_AGAIN_SECONDS)
            for worker in tuple(self._unread_journals):
                if await self._shipper.worker_ended(worker):
                    self._unread_journals.discard(worker)
                    self._migrations.answers.recovered(worker)

    def _migrated(self, rows: Iterable[ExchangeOutcome]) -> None:
        self._guard.migrated(rows)
        for row in rows:
            self._metrics.migrated(row.migration, row.side.value, row.outcome)

    def _actions(self) -> dict[str, Action]:
        return {
            **migration_actions(self._migrations),
            "/api/tokens/retry": Action(
                what='try to mint at once, as after `payproxy token`: {"credential": NAME, "audience": AUDIENCE}',
                act=self._retry_tokens,
            ),
        }

    def _retry_tokens(self, values: dict[str, Any]) -> dict[str, Any]:
        credential, audience = values.get("credential"), values.get("audience")
        if not isinstance(credential, str) or not isinstance(audience, str | None):
            raise ActionRefused(400, "bad_request", "credential and audience are names.")
        retried = self._generations.current.token_manager.retry(credential, audience)
        if retried:
            self._log.write_line(f"back-off cleared on request: {credential}, {retried} tokens")
        return {"retried": retried}

    async def _reload_on_signal(self) -> None:
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        while True:
            await asked.wait()
            asked.clear()
            if not self._draining:
                await self._reloader.reload()

    async def _stop_on_signal(self) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()
        server = self._generations.current.snapshot.server
        grace = 0.0 if server.loopback else _GRACE_SECONDS
        self._draining = True
        self._log.write_line(f"stopping: the listener closes in {grace:.0f} s, then what is in flight ends")
        most = server.exchange_timeout + KILL_AFTER_SECONDS
        self._exit_timer.start(grace + most + CLOSING_SECONDS)
        self._generations.stop(grace=grace)
        await self._clock.sleep(grace)
        self._sockets.close()
        end = self._clock.monotonic() + most
        while self._generations.have_workers() and self._clock.monotonic() < end:
            await self._clock.sleep(_LOOK_SECONDS)
        self._generations.kill()
        self._exit_timer.start()


def _stderr_line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
