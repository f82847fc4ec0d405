"""What every case works with: the bank, the candidates, and how long to measure."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.bank import Bank
from bench.candidates import Candidate, Command, started
from bench.load import ClosedLoop
from proxy.entropy import SystemEntropy

_ENTROPY = SystemEntropy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured: *rounds*, *seconds* of a window, *megabytes* of a stream, callers that idle.

    *warm_up* seconds of load go before each window: connections are opened and caches filled in them.
    *open_loop* are the windows of latency per round and their seconds, *quiet_seconds* and *idle_seconds* how long a
    candidate must be at rest before its CPU is read, and how long after its start its memory is.
    """

    rounds: int
    seconds: float
    warm_up: float
    megabytes: int
    idle_callers: int
    open_loop: tuple[int, float]
    quiet_seconds: float
    idle_seconds: float


LONG = Effort(
    rounds=3,
    seconds=4,
    warm_up=1,
    megabytes=100,
    idle_callers=2000,
    open_loop=(2, 1.0),
    quiet_seconds=0.2,
    # Long enough for what follows the first request: counters, the shipper's first turn, freed memory.
    idle_seconds=3.0,
)
QUICK = Effort(
    rounds=1,
    seconds=0.3,
    warm_up=0,
    megabytes=20,
    idle_callers=200,
    open_loop=(1, 0.2),
    quiet_seconds=0.05,
    idle_seconds=0.5,
)


class Bed:
    """One run. Candidates are started when a case first asks for them and run until *stack* is closed."""

    def __init__(
        self,
        *,
        bank: Bank,
        effort: Effort,
        directory: Path,
        closed_loop: ClosedLoop,
        commands: Mapping[str, Command],
        stack: ExitStack,
    ) -> None:
        self.bank = bank
        self.effort = effort
        self.closed_loop = closed_loop
        self.directory = directory
        self._commands = commands
        self._stack = stack
        self._running: dict[str, Candidate] = {}

    def candidates(self, names: Sequence[str]) -> dict[str, Candidate]:
        """Return the candidates of *names* that can run on this machine."""
        for name in names:
            if name in self._commands and name not in self._running:
                self._running[name] = self._start(name, self._stack)
        return {name: self._running[name] for name in names if name in self._running}

    def can_run(self, name: str) -> bool:
        """Return whether there is a candidate of that *name* on this machine."""
        return name in self._commands

    @contextmanager
    def fresh(self, names: Sequence[str]) -> Iterator[dict[str, Candidate]]:
        """Start candidates of *names* anew, those that can run here, for as long as the block lasts."""
        with ExitStack() as stack:
            yield {name: self._start(name, stack) for name in names if name in self._commands}

    def _start(self, name: str, stack: ExitStack) -> Candidate:
        return stack.enter_context(
            started(
                name,
                self._commands[name],
                directory=self.directory,
                bank=self.bank,
                quiet_seconds=self.effort.quiet_seconds,
            )
        )

    def __repr__(self) -> str:
        return f"<Bed with {', '.join(self._running) or 'nobody'}>"


def shuffled(names: Sequence[str]) -> list[str]:
    """Return *names* in an order by lot, so that no candidate always follows the same one."""
    return sorted(names, key=lambda _: _ENTROPY.uniform(0, 1))
