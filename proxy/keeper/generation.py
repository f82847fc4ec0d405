"""One active configuration with its tokens and workers; during a reload two generations run side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.keeper.migrations import Migrations
from proxy.keeper.sockets import Sockets
from proxy.keeper.token_manager import TokenManager
from proxy.keeper.worker_process import WorkerProcess
from proxy.keeper.workers import Workers
from proxy.migration.outcome import ExchangeOutcome, outcomes_of
from proxy.migration.pin import RetryPin
from proxy.migration.pin_rows import pins_of
from proxy.routing.compile import route_table
from proxy.settings.model import Settings
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import WorkerState


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
        say: Callable[[str], None],
        ended: Callable[[str], Awaitable[None]],
        migrations: Migrations,
        migrated: Callable[[list[ExchangeOutcome]], None],
        serial: Iterator[int],
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        self._migrations = migrations
        self._migrated = migrated
        self._metrics = metrics
        self._say = say
        self._asks: set[asyncio.Task[None]] = set()
        self.mints = TokenManager(
            route_table(snapshot),
            credentials,
            clock=clock,
            entropy=entropy,
            observe=observe,
            broadcast=self._broadcast,
            serial=serial,
        )
        self.workers = Workers(
            sockets.number,
            snapshot=snapshot,
            sockets=sockets,
            clock=clock,
            observe=observe,
            hear=self._hear,
            greetings=lambda: [*migrations.messages(snapshot.migrations), *self.mints.messages()],
            ended=ended,
        )

    async def run(self) -> None:
        """Serve until the workers have ended after drain or kill."""
        async with asyncio.TaskGroup() as tasks:
            minting = tasks.create_task(self.mints.run(), name="mints")
            await self.workers.run()
            minting.cancel()

    def serves(self) -> bool:
        """Return whether every worker accepts callers' connections."""
        serving = [one for one in self.workers.statuses() if one.state is WorkerState.SERVING]
        return len(serving) == self.workers.number

    def _broadcast(self, message: dict[str, Any]) -> None:
        self.workers.broadcast(message)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """Handle a worker's message; log a malformed one instead of raising, so that the keeper keeps running."""
        try:
            self._obey(worker, message)
        except (KeyError, TypeError, ValueError) as error:
            self._say(f"worker {worker.index} sent an invalid message: {type(error).__name__}")

    def _obey(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message["type"]:
            case "refused":
                self._ask(self._answer(worker, message), name="refused token")
            case "replayed":
                self.mints.replayed(message["key"], message["route"], refused_again=message["refused_again"])
            case "counters":
                self._metrics.add(message["delta"])
                worker.take(message)
            case "migrated":
                self._migrated(outcomes_of(message["rows"]))
            case "pin":
                [(digest, pin)] = pins_of([message["row"]]).items()
                self._ask(self._keep_pin(worker, message["ask"], digest, pin), name="retry pin")
            case "release":
                self._ask(self._migrations.pins.release(pins_of([message["row"]])), name="end of a retry pin")
            case "claim":
                [(digest, pin)] = pins_of([message["row"]]).items()
                self._ask(self._claim(worker, message["ask"], digest, pin), name="fallback of a retry key")
            case "taken":
                self._migrations.answers.take(worker.name, message["serial"], message["value"])

    def _ask(self, answering: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.get_running_loop().create_task(answering, name=name)
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    async def _keep_pin(self, worker: WorkerProcess, ask: int, digest: str, pin: RetryPin) -> None:
        kept = await self._migrations.pins.keep({digest: pin})
        worker.send({"type": "pin_answer", "ask": ask, "kept": kept})

    async def _claim(self, worker: WorkerProcess, ask: int, digest: str, pin: RetryPin) -> None:
        agreed = await self._migrations.pins.claim(worker.name, digest, pin)
        worker.send({"type": "pin_answer", "ask": ask, "kept": agreed})

    async def _answer(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        outcome = await self.mints.replace(message["key"], message["mint"], message["route"])
        worker.send({"type": "answer", "ask": message["ask"], "outcome": outcome})

    def __repr__(self) -> str:
        return f"<Generation {self.snapshot.digest} {self.workers!r}>"
