"""The keeper process: holds the keys, mints tokens, runs the admin server, ships the journals, supervises workers."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.checks.container import in_container
from proxy.checks.reading import Read
from proxy.checks.shared_host import other_users
from proxy.clock import Clock, timestamp
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import fan_out
from proxy.hot_path import built
from proxy.keeper.admin import AdminApp
from proxy.keeper.admin_server import AdminServer, admin_server
from proxy.keeper.audit_log import AuditLog
from proxy.keeper.automatic_inquiries import AutomaticInquiries
from proxy.keeper.body_signatures import Signers
from proxy.keeper.certificate_expiry import CertificateExpiry
from proxy.keeper.certificates import certificates_in_use
from proxy.keeper.exit_timer import ExitTimer
from proxy.keeper.facade_keys import assertion_keys, make_signing_key
from proxy.keeper.followers import Follow, Followers
from proxy.keeper.generation import Generation
from proxy.keeper.generations import Generations
from proxy.keeper.graceful_stop import GracefulStop
from proxy.keeper.guard_task import MigrationGuard
from proxy.keeper.history_file import HistoryFile
from proxy.keeper.inquiries import Inquiries
from proxy.keeper.log_sinks import archive_of, sinks_of
from proxy.keeper.lost_journals import LostJournals
from proxy.keeper.migration_actions import migration_actions
from proxy.keeper.migrations import ConfigurationObjected, Migrations
from proxy.keeper.open_requests import OpenRequests
from proxy.keeper.recent_exchanges import RecentExchanges
from proxy.keeper.reload import Reloader, on_signal
from proxy.keeper.rotation import Prover, Rotation
from proxy.keeper.service_manager import ServiceManager
from proxy.keeper.shared_state import mask_alike, replication_of, token_sharing_of
from proxy.keeper.sockets import Sockets
from proxy.keeper.token_actions import token_actions
from proxy.migration.outcome import ExchangeOutcome
from proxy.records.chain_id import chain_id
from proxy.records.record import RecordContext
from proxy.records.shipper import Shipper
from proxy.records.sinks.stdout import Render
from proxy.settings.model import Settings
from proxy.settings.values import masked, snapshot_of
from proxy.telemetry.history import History
from proxy.telemetry.log import EventLog, write_stderr
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import SinkStatus, Status, TokenStatus

if TYPE_CHECKING:
    from proxy.keeper.console import InstanceConsole


class Keeper:
    """One running instance with the name *instance*; *sockets* are already open, *credentials* already loaded.

    So are *signers*, the keys for bodies. *admin_sockets* were passed for the admin listener. *read* reads the
    configuration again. *environ* is what the service manager has set.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance: str,
        sockets: Sockets,
        admin_sockets: Sequence[socket.socket] = (),
        credentials: Mapping[str, Credential],
        signers: Signers,
        read: Read,
        environ: Mapping[str, str],
        clock: Clock,
        entropy: Entropy,
        render: Render | None = None,
        stamp: Callable[[float], str] = timestamp,
    ) -> None:
        snapshot = snapshot_of(settings, instance=instance)
        self._instance = instance
        self._read = read
        self._environ = environ
        self._version = __version__
        self._chain = chain_id(Path(snapshot.data_directory), entropy=entropy)
        self._sockets = sockets
        self._admin_sockets = admin_sockets
        self._certificates = certificates_in_use(settings)
        self._clock = clock
        self._entropy = entropy
        self._serial = count(1)
        self._started = clock.monotonic()
        self._log = EventLog(clock=clock, write=write_stderr, stamp=stamp)
        self._history = History(clock=clock)
        self._history_file = HistoryFile(
            self._history, Path(snapshot.data_directory), clock=clock, write_line=self._log.write_line
        )
        self._exit_timer = ExitTimer(Path(snapshot.data_directory), write_line=self._log.write_line)
        self._manager = ServiceManager(
            environ,
            pid=os.getpid(),
            status=self.status,
            addresses=lambda: sockets.addresses,
            clock=clock,
            write_line=self._log.write_line,
        )
        self._stop = GracefulStop(
            sockets=sockets, manager=self._manager, exit_timer=self._exit_timer, clock=clock, log=self._log
        )
        self._metrics = Metrics(status=self.status, counted=self._history.add)
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
            version=__version__,
            spool_bytes=snapshot.request_log.spool_bytes,
            clock=clock,
            entropy=entropy,
        )
        observe = self._observe = fan_out(
            *(one.observe for one in (self._metrics, self._history, self._log, self._audit_log, self._stop))
        )
        self._migrations = Migrations(
            Path(snapshot.data_directory),
            clock=clock,
            operated=self._audit_log.operated,
            broadcast=lambda message: self._generations.broadcast(message),  # noqa: PLW0108 - created later
            tokens=self._tokens,
            recovered=lambda: self._shipper.caught_up,
            write_line=self._log.write_line,
            mask=self._audit_log.mask.text,
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
        self._token_sharing = token_sharing_of(settings, host=instance, clock=clock, entropy=entropy, observe=observe)
        self._guard = MigrationGuard(self._migrations, tokens=self._tokens, clock=clock, observe=observe)
        self._recent = RecentExchanges(clock=clock)
        self._console: InstanceConsole | None = None
        self._inquiries = Inquiries(
            lambda: self._generations.current,
            operated=self._audit_log.operated,
            record=self._audit_log.inquired,
            clock=clock,
        )
        self._automatic = AutomaticInquiries(
            self._inquiries.ask_alone,
            self._inquiries.automatic,
            find=OpenRequests(lambda: self._generations.current.settings, chain=self._chain, clock=clock).find,
            clock=clock,
            write_line=self._log.write_line,
        )
        self._shipper = Shipper(
            Path(snapshot.data_directory),
            sinks=[*sinks_of(settings, environ=environ, clock=clock, write_line=self._log.write_line, render=render)],
            clock=clock,
            observe=observe,
            checkpoints=self._audit_log.checkpoints,
            uncertain=self._migrations.pins.keep_uncertain,
            recorded=self._recorded,
        )
        self._lost_journals = LostJournals(
            shipper=self._shipper, answers=self._migrations.answers, clock=clock, observe=observe
        )
        self._generations = Generations(self._generation(settings, credentials, signers), clock=clock)
        lock = asyncio.Lock()  # one generation change at a time
        self._followers = Followers(self._parts(), clock=clock, observe=observe, lock=lock)
        self._reloader = Reloader(
            read=read,
            make=self._generation,
            generations=self._generations,
            prover=Prover(clock=clock, entropy=entropy, observe=observe),
            followers=self._followers,
            objection=self._objection,
            hand_over=lambda new: self._migrations.hand_over(snapshot_of(new, instance=instance)),
            lock=lock,
            clock=clock,
            observe=observe,
        )
        self._rotation = Rotation(
            token_manager=lambda: self._generations.current.token_manager,
            signatures=lambda: self._generations.current.signatures,
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
        """Serve until SIGTERM or SIGINT, drain, return whether every request was recorded; raise ListenFailed."""
        settings, snapshot = self._generations.current.settings, self._generations.current.snapshot
        server = admin_server(self._admin_app(settings), settings, passed=self._admin_sockets)
        await self._audit_log.open()
        await self._migrations.open()
        await self._migrations.replication.begin()
        if objection := await self._objection(settings):
            raise ConfigurationObjected(objection)
        await self._migrations.follow(snapshot.migrations, snapshot.routes)
        self._guard.follow(settings, snapshot)
        self._audit_log.configured(masked(settings), digest=snapshot.digest)
        async with server, asyncio.TaskGroup() as tasks:
            # Read journals of a crashed run first: their unanswered requests give retry pins needed before serving.
            await self._shipper.begin()
            tasks.create_task(self._shipper.run(), name="shipper")
            helpers = [
                tasks.create_task(self._lost_journals.run(), name="journals of lost workers"),
                tasks.create_task(self._migrations.run(), name="migrations"),
                tasks.create_task(self._migrations.replication.run(), name="replicas"),
                tasks.create_task(self._guard.run(), name="guard"),
                tasks.create_task(self._rotation.run(), name="rotation"),
                tasks.create_task(self._automatic.run(), name="automatic inquiries"),
                tasks.create_task(self._expiry.run(), name="expiry of certificates"),
                tasks.create_task(on_signal(self._reload), name="reload on signal"),
                tasks.create_task(self._followers.run(), name="what follows a reload"),
                tasks.create_task(self._stop.run(self._generations), name="stop on signal"),
                tasks.create_task(self._announce(server), name="announcement"),
                tasks.create_task(self._history_file.run(), name="history"),
                tasks.create_task(self._manager.watch(), name="watchdog"),
            ]
            await self._generations.run()
            self._exit_timer.start()
            for task in helpers:
                task.cancel()
            await self._history_file.write()
            self._stop.in_order &= await self._audit_log.close()
            await self._shipper.worker_ended(self._audit_log.journal_name)
            await self._shipper.close()
        return self._stop.log_end()

    def _admin_app(self, settings: Settings) -> AdminApp:
        if settings.admin.console and settings.admin.listen:
            self._console = self._new_console()
        console = self._console
        return AdminApp(
            status=self.status,
            with_recent=self._with_recent,
            metrics=self._metrics,
            hosts=settings.admin.hosts,
            open_status=console.is_open if console else lambda: False,
            console=console.routes() if console else (),
            end_live=lambda: self._end_streams("stop"),
            actions={
                **migration_actions(self._migrations),
                **self._inquiries.actions(),
                **token_actions(lambda: self._generations.current.token_manager, write_line=self._log.write_line),
                **(console.actions if console else {}),
            },
            operated=self._audit_log.operated,
            configuration=lambda: masked(self._generations.current.settings),
        )

    def _new_console(self) -> "InstanceConsole":
        # 2 MB and 40 ms, for those who have a console.
        from proxy.keeper.console import InstanceConsole  # noqa: PLC0415
        from proxy.keeper.console_configuration import ConsoleConfiguration  # noqa: PLC0415

        return InstanceConsole(
            lambda: self._generations.current.settings,
            status=self.status,
            with_recent=self._with_recent,
            history=self._history,
            migrations=self._migrations,
            in_force=ConsoleConfiguration(
                settings=lambda: self._generations.current.settings,
                snapshot=lambda: self._generations.current.snapshot,
                table=lambda: self._generations.current.table,
                read=self._read,
                migrations=self._migrations,
                container=in_container(self._environ),
                users=lambda: other_users(self._environ),
                clock=self._clock,
            ),
            inquiries=self._inquiries,
            operated=self._audit_log.operated,
            clock=self._clock,
            entropy=self._entropy,
        )

    async def _announce(self, server: AdminServer) -> None:
        """Log the listening addresses as soon as the first worker can serve, and report to the service manager."""
        await self._sockets.opened.wait()
        self._log.write_line(
            f"payproxy {__version__} ({self._generations.current.snapshot.environment}, {built()}) serves "
            f"callers on {', '.join(self._sockets.addresses)}; admin on {server.places}"
        )
        self._manager.ready()
        await self._manager.follow()

    async def close(self) -> None:
        """Close everything that was opened, however far `run` came."""
        await self._generations.current.token_manager.close()
        await self._generations.current.signatures.close()
        await self._audit_log.close()
        await self._shipper.close()
        await self._migrations.close()

    def status(self) -> Status:
        """Return the current state of the instance for probes and metrics."""
        current, alive = self._generations.current, self._generations.alive
        return Status(
            environment=current.snapshot.environment,
            instance=self._instance,
            version=self._version,
            config_digest=current.snapshot.digest,
            uptime=self._clock.monotonic() - self._started,
            draining=self._stop.draining,
            journal_problem=next(filter(None, (one.workers.journal_problem for one in alive)), ""),
            reload_problem="; ".join(filter(None, [self._reloader.problem, *self._rotation.problems.values()])),
            workers_wanted=current.workers.number,
            workers=tuple(worker for one in alive for worker in one.workers.statuses()),
            tokens=current.token_manager.statuses(),
            ready_requires=current.settings.admin.ready_requires,
            certificates=tuple(one.at(self._clock.now()) for one in self._certificates),
            sinks=tuple(SinkStatus(**sink._asdict()) for sink in self._shipper.sinks),
            migrations=self._migrations.states(),
            migration_problem=self._migrations.problem,
            shares_tokens=current.token_manager.sharing.active,
            sharing_problem=current.token_manager.sharing.problem,
            routes=tuple(route.name for route in current.snapshot.routes),
            signed_routes=tuple(route.name for route in current.snapshot.routes if route.signed_type),
            facade=current.snapshot.facade is not None,
            time=self._clock.now(),
            shared=not self._migrations.replication.alone,
            replicas=self._migrations.replication.others,
        )

    def _with_recent(self, status: Status) -> Status:
        """Return *status* for pages and commands: with recent callers and errors. Called in threads."""
        return replace(status, callers=self._recent.callers(), errors=self._recent.errors())

    def _tokens(self) -> Iterable[TokenStatus]:
        return self._generations.current.token_manager.statuses()

    def _generation(self, settings: Settings, credentials: Mapping[str, Credential], signers: Signers) -> Generation:
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
            journals=self._lost_journals,
            migrations=self._migrations,
            migrated=self._migrated,
            serial=self._serial,
            sharing=self._token_sharing(),
            signers=signers,
        )

    async def _objection(self, settings: Settings) -> str:
        """Return why the migrations of *settings* must not take over, "" if they may."""
        snapshot = snapshot_of(settings, instance=self._instance)
        by_state = self._migrations.objection(snapshot)
        return by_state or await self._migrations.objection_by_log(snapshot, lambda: archive_of(settings))

    def _parts(self) -> dict[str, Follow]:
        """Return what has to follow a new generation, in this order."""
        return {
            "the migrations": lambda new: self._migrations.follow(new.snapshot.migrations, new.snapshot.routes),
            "the guard": lambda new: self._guard.follow(new.settings, new.snapshot),
            "the request log": lambda new: self._audit_log.configured(masked(new.settings), digest=new.snapshot.digest),
            "the console": lambda new: self._console.follow(new.settings.admin.operators) if self._console else None,
            "the watch on files": lambda new: asyncio.to_thread(self._rotation.follow, new.settings),
            "the expiry of certificates": lambda _: self._read_certificates(),
            "the live tails": lambda _: self._end_streams("reload"),
        }

    def _end_streams(self, why: str) -> None:
        if self._console is not None:
            self._console.end_streams(why)

    async def _read_certificates(self) -> None:
        self._certificates = await asyncio.to_thread(certificates_in_use, self._generations.current.settings)
        self._expiry.look()

    def _recorded(self, records: Sequence[bytes]) -> None:
        self._recent.add(records)
        if self._console is not None:
            self._console.add(records)
        self._automatic.add(records)

    def _migrated(self, rows: Iterable[ExchangeOutcome]) -> None:
        self._guard.migrated(rows)
        for row in rows:
            self._metrics.migrated(row.migration, row.side.value, row.outcome)

    async def _reload(self) -> None:
        if not self._stop.draining:
            with self._manager.reloading():
                await self._reloader.reload()
