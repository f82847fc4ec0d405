"""What every case works with: the bank, the candidates while they run, and how long to measure."""

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
    """How much is measured: *rounds*, the *seconds* of one window, *megabytes* of a stream, callers that idle."""

    rounds: int
    seconds: int
    megabytes: int
    idle_callers: int


LONG = Effort(rounds=5, seconds=4, megabytes=100, idle_callers=2000)
QUICK = Effort(rounds=1, seconds=1, megabytes=20, idle_callers=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """One run: *say* tells people what is going on."""

    bank: Bank
    effort: Effort
    directory: Path
    closed_loop: ClosedLoop
    commands: Mapping[str, Command]

    @contextmanager
    def candidates(self, names: Sequence[str]) -> Iterator[dict[str, Candidate]]:
        """Run the candidates of *names* that can run here while the block lasts, each on its own, side by side."""
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(started(name, self.commands[name], directory=self.directory, bank=self.bank))
                for name in names
                if name in self.commands
            }


def shuffled(names: Sequence[str]) -> list[str]:
    """Return *names* in an order by lot, so that no candidate always follows the same one."""
    return sorted(names, key=lambda _: _ENTROPY.uniform(0, 1))
