"""Start: CPU from exec to the first served request, memory while nobody calls, CPU of the usual commands."""

import compileall
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import proxy
from bench.bank import SMALL_PATH
from bench.bed import Bed
from bench.candidates import Command, payproxy
from bench.machine import (
    CLOCK,
    PROXY_CORE,
    Unfit,
    cpu_seconds,
    family,
    pause,
    proportional_bytes,
    resident_bytes,
    running,
)
from bench.report import Goal, Report
from bench.talk import ask, connected, free_port, request, until_open

_SHIPPED, _WITH_DATABASE = "as shipped", "with SQLite"
_WAYS: dict[str, Command] = {
    _SHIPPED: payproxy(),
    "with the console": payproxy(admin="127.0.0.1:0"),
    _WITH_DATABASE: payproxy(database="sqlite:requests.db"),
}
_MIB = 1048576
_FIRST_ANSWER_SECONDS = 30.0
_COMMANDS: dict[str, Sequence[str]] = {
    "--help": ("--help",),
    "health": ("health", "--config", "payproxy.toml"),
    "status": ("status", "--config", "payproxy.toml"),
    "explain": ("explain", "GET", SMALL_PATH, "--config", "payproxy.toml"),
    "check": ("check", "payproxy.toml"),
    "token": ("token", "bank", "--config", "payproxy.toml"),
    "logs search": ("logs", "search", "--config", "payproxy.toml"),
    "config show": ("config", "show", "--config", "payproxy.toml"),
}
_HEALTH_MS = 50
_COMMAND_MS = 300


@dataclass(frozen=True, slots=True)
class Start:
    """One start: per process, keeper first, seconds of *cpu* and *resident* and *proportional* bytes."""

    cpu: tuple[float, ...]
    resident: tuple[int, ...]
    proportional: tuple[int, ...]
    commands: dict[str, float]


def measure(bed: Bed) -> list[Report]:
    """Return a report of processes and one of commands."""
    # As an installer does it; else with PYTHONDONTWRITEBYTECODE each start of an editable install compiles everything.
    compileall.compile_dir(Path(proxy.__file__).parent, quiet=1)
    found: dict[str, list[Start]] = {way: [] for way in _WAYS}
    for number in range(bed.effort.rounds):
        for way, command in _WAYS.items():
            directory = bed.directory / f"start-{way.replace(' ', '-')}-{number}"
            found[way].append(_start(command, bed, directory=directory, commands=way == _WITH_DATABASE))
    return [_processes(found), _commands([start.commands for start in found[_WITH_DATABASE]])]


def _start(command: Command, bed: Bed, *, directory: Path, commands: bool) -> Start:
    """Start an instance, take its figures, end it."""
    directory.mkdir()
    port, log = free_port(), directory / "output.log"
    with running(command(directory, bed.bank, port), log=log, core=PROXY_CORE) as process:
        until_open(port, process, log=log)
        _first_answer(port)
        processes = family(process.pid)
        cpu = tuple(cpu_seconds([pid], reaped=True) for pid in processes)
        pause(bed.effort.idle_seconds)
        return Start(
            cpu,
            tuple(resident_bytes([pid]) for pid in processes),
            tuple(proportional_bytes(pid) for pid in processes),
            {name: _command_seconds(words, directory) for name, words in _COMMANDS.items()} if commands else {},
        )


def _first_answer(port: int) -> None:
    end = CLOCK.monotonic() + _FIRST_ANSWER_SECONDS
    while True:
        with connected(port) as connection:
            status, _ = ask(connection, request("GET", SMALL_PATH))
        if status == 200:
            return
        if CLOCK.monotonic() > end:
            raise Unfit(f"payproxy answers {status}")
        pause(0.05)


def _command_seconds(words: Sequence[str], directory: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("payproxy")), *words], cwd=directory, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Unfit(f"payproxy {' '.join(words)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _processes(found: dict[str, list[Start]]) -> Report:
    rows = [
        [
            way,
            *(f"{cpu:.2f}" for cpu in _least([start.cpu for start in starts])),
            *(f"{size / _MIB:.1f}" for size in _least([start.resident for start in starts])),
            *(f"{size / _MIB:.1f}" for size in _least([start.proportional for start in starts])),
        ]
        for way, starts in found.items()
    ]
    head = (
        "payproxy", "keeper: CPU s to the first answer", "worker", "keeper: resident MB, idle", "worker",
        "keeper: proportional MB", "worker",
    )  # fmt: skip
    shipped = found[_SHIPPED]
    keeper, worker = (size / _MIB for size in _least([start.resident for start in shipped]))
    goals = [
        Goal(
            name="CPU from exec to the first answer", value=min(sum(start.cpu) for start in shipped), limit=1, unit="s"
        ),
        Goal(name="keeper's resident memory, idle", value=keeper, limit=60, unit="MB"),
        Goal(name="worker's resident memory, idle", value=worker, limit=40, unit="MB"),
    ]
    return Report.of("Start: smallest of the rounds", head, rows, goals)


def _commands(rounds: list[dict[str, float]]) -> Report:
    least = {name: min(took[name] for took in rounds) * 1000 for name in _COMMANDS}
    slowest = max(least, key=lambda name: least[name])
    goals = [
        Goal(name="payproxy health: CPU", value=least["health"], limit=_HEALTH_MS, unit="ms"),
        Goal(name=f"the slowest command ({slowest}): CPU", value=least[slowest], limit=_COMMAND_MS, unit="ms"),
    ]
    rows = [[name, f"{ms:.0f}"] for name, ms in least.items()]
    return Report.of("Commands: smallest of the rounds", ("payproxy", "CPU ms"), rows, goals)


def _least(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [min(values) for values in zip(*rounds, strict=True)]
