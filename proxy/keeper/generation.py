"""One active configuration with its tokens and workers; during a reload two generations run side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.keeper.body_signatures import BodySignatures, Signers
from proxy.keeper.certificate_refusals import CertificateRefusals
from proxy.keeper.lost_journals import LostJournals
from proxy.keeper.migrations import Migrations
from proxy.keeper.sockets import Sockets
from proxy.keeper.token_manager import TokenManager
from proxy.keeper.worker_process import WorkerProcess
from proxy.keeper.workers import Workers
from proxy.link.messages import (
    Acknowledged,
    ClaimRequest,
    Message,
    Outcomes,
    PinAnswer,
    PinRelease,
    PinRequest,
    RefusalAnswer,
    Replayed,
    SignatureRequest,
    TokenAccepted,
    TokenRefusal,
    WorkerReport,
)
from proxy.migration.outcome import ExchangeOutcome
from proxy.routing.compile import route_table
from proxy.settings.model import Settings
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.metrics import CountsUnusable, Metrics
from proxy.telemetry.status import WorkerState
from proxy.tokens.token_share import TokenSharing


class Generation:
    """Serves callers with one snapshot; create it on the running loop. *serial* numbers mints across generations.

    *migrated* receives the outcomes of exchanges on migrated routes.
    """

    def __init__(
        self,
        settings: Settings,
        snapshot: Snapshot,
        credentials: Mapping[str, Credential],
        *,
        sockets: Sockets,
        metrics: Metrics,
        clock: Clock,
        entropy: Entropy,
        observe: Observer,
        write_line: Callable[[str], None],
        journals: LostJournals,
        migrations: Migrations,
        migrated: Callable[[Iterable[ExchangeOutcome]], None],
        serial: Iterator[int],
        sharing: TokenSharing,
        signers: Signers,
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        # Compiled once: a thousand rules take 6 ms.
        self.table = route_table(snapshot)
        self._migrations = migrations
        self._migrated = migrated
        self._metrics = metrics
        self._write_line = write_line
        self._tasks: set[asyncio.Task[None]] = set()
        self.token_manager = TokenManager(
            self.table,
            credentials,
            clock=clock,
            entropy=entropy,
            observe=observe,
            broadcast=lambda message: self.workers.broadcast(message),  # noqa: PLW0108 - created later
            serial=serial,
            sharing=sharing,
        )
        self.signatures = BodySignatures(
            signers, callers=settings.callers, clock=clock, observe=observe, count=metrics.signed
        )
        self._refusals = CertificateRefusals(clock=clock, observe=observe)
        self.workers = Workers(
            sockets.number,
            snapshot=snapshot,
            sockets=sockets,
            clock=clock,
            observe=observe,
            on_message=self._on_message,
            # One at a time, as each is sent: meanwhile a token may be replaced, and the newest must come last.
            first_messages=lambda: chain(migrations.messages(snapshot.migrations), self.token_manager.messages()),
            journals=journals,
            write_line=write_line,
        )

    async def run(self) -> None:
        """Serve until the workers have ended after drain or kill."""
        async with asyncio.TaskGroup() as tasks:
            minting = tasks.create_task(self.token_manager.run(), name="mints")
            signing = tasks.create_task(self.signatures.run(), name="signatures of bodies")
            await self.workers.run()
            minting.cancel()
            signing.cancel()
        await self.signatures.close()

    def serves(self) -> bool:
        """Return whether every worker accepts callers' connections."""
        serving = [one for one in self.workers.statuses() if one.state is WorkerState.SERVING]
        return len(serving) == self.workers.number

    def _on_message(self, worker: WorkerProcess, message: Message) -> None:
        match message:
            case TokenRefusal(ask, key, mint, route, source, behind):
                replaced = self.token_manager.replace(key, mint, route=route, source=source, behind=behind)
                self._start(self._answer_refusal(worker, ask, replaced))
            case SignatureRequest():
                self.signatures.request(worker.name, message, worker.send)
            case TokenAccepted(key, mint, sent):
                self.token_manager.accepted(key, mint, sent=sent)
            case Replayed(key, mint, route, refused_again, source):
                self.token_manager.replayed(key, mint, route=route, source=source, refused_again=refused_again)
            case WorkerReport():
                worker.on_report(message)
                try:
                    self._metrics.add(message.counts)
                    self.signatures.refused(message.counts.signatures)
                    self._refusals.add(message.counts.certificates)
                except CountsUnusable as error:
                    self._write_line(f"worker {worker.index}: {error}")
            case Outcomes(rows):
                self._migrated(rows)
            case PinRequest() | PinRelease() | ClaimRequest():
                self._on_pin(worker, message)
            case Acknowledged():
                self._migrations.answers.on_answer(worker.name, message)

    def _on_pin(self, worker: WorkerProcess, message: PinRequest | PinRelease | ClaimRequest) -> None:
        match message:
            case PinRequest(ask, digest, pin):
                self._start(self._answer_pin(worker, ask, self._migrations.pins.keep({digest: pin})))
            case PinRelease(digest, pin):
                self._start(self._migrations.pins.release(digest, pin))
            case ClaimRequest(ask, digest, pin):
                self._start(self._answer_pin(worker, ask, self._migrations.pins.claim(worker.name, digest, pin)))

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_pin(self, worker: WorkerProcess, ask: int, kept: Awaitable[bool]) -> None:
        worker.send(PinAnswer(ask, await kept))

    async def _answer_refusal(self, worker: WorkerProcess, ask: int, outcome: Awaitable[str]) -> None:
        worker.send(RefusalAnswer(ask, await outcome))

    def __repr__(self) -> str:
        return f"<Generation {self.snapshot.digest} {self.workers!r}>"
