"""One configuration in force, with its tokens and its workers; during a reload two live side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.keeper.mints import Mints
from proxy.keeper.sockets import Sockets
from proxy.keeper.workers import WorkerProcess, Workers
from proxy.routing.compile import route_table
from proxy.settings.sections import Settings
from proxy.settings.snapshot import Snapshot
from proxy.telemetry.counters import DeltaUnusable
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import WorkerState


class Generation:
    """What serves callers by one snapshot; to be made on the running loop. *serial* numbers mints across them all."""

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
        serial: Iterator[int],
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        self._metrics = metrics
        self._say = say
        self._asks: set[asyncio.Task[None]] = set()
        self.mints = Mints(
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
            greetings=self.mints.messages,
            ended=ended,
        )

    async def run(self) -> None:
        """Serve until the workers were told to drain, or were killed, and have ended."""
        async with asyncio.TaskGroup() as tasks:
            minting = tasks.create_task(self.mints.run(), name="mints")
            await self.workers.run()
            minting.cancel()

    def serves(self) -> bool:
        """Return whether every worker takes callers' connections."""
        serving = [one for one in self.workers.statuses() if one.state is WorkerState.SERVING]
        return len(serving) == self.workers.number

    def _broadcast(self, message: dict[str, Any]) -> None:
        self.workers.broadcast(message)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """Take what a worker says; one that talks nonsense must not take the keeper down."""
        try:
            self._obey(worker, message)
        except (KeyError, TypeError, DeltaUnusable) as error:
            self._say(f"worker {worker.index} sent what is no message: {type(error).__name__}")

    def _obey(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message["type"]:
            case "refused":
                task = asyncio.get_running_loop().create_task(self._answer(worker, message), name="refused token")
                self._asks.add(task)
                task.add_done_callback(self._asks.discard)
            case "replayed":
                self.mints.replayed(message["key"], message["route"], refused_again=message["refused_again"])
            case "counters":
                self._metrics.add(message["delta"])
                worker.journal_usable = message["journal_usable"]

    async def _answer(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        outcome = await self.mints.replace(message["key"], message["mint"], message["route"])
        worker.send({"type": "answer", "ask": message["ask"], "outcome": outcome})

    def __repr__(self) -> str:
        return f"<Generation {self.snapshot.digest} {self.workers!r}>"
