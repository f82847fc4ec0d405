"""What every case works with: the bank, the candidates, and how long to measure."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
    """

    rounds: int
    seconds: int
    warm_up: int
    megabytes: int
    idle_callers: int


LONG = Effort(rounds=3, seconds=4, warm_up=1, megabytes=100, idle_callers=2000)
QUICK = Effort(rounds=1, seconds=1, warm_up=0, megabytes=20, idle_callers=300)


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
                self._running[name] = self._stack.enter_context(
                    started(name, self._commands[name], directory=self.directory, bank=self.bank)
                )
        return {name: self._running[name] for name in names if name in self._running}

    def __repr__(self) -> str:
        return f"<Bed with {', '.join(self._running) or 'nobody'}>"


def shuffled(names: Sequence[str]) -> list[str]:
    """Return *names* in an order by lot, so that no candidate always follows the same one."""
    return sorted(names, key=lambda _: _ENTROPY.uniform(0, 1))
