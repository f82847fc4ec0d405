"""`python -m bench`: payproxy beside nginx, Envoy and a naive proxy, everything on loopback, one table at the end."""

import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import envoy
from bench.bank import bank
from bench.bed import LONG, QUICK, Bed, Effort
from bench.candidates import COMMANDS, Command
from bench.cases import connections, cpu, latency, memory, rules, start, streaming, workers
from bench.load import ClosedLoop
from bench.machine import CLOCK, Unfit, describe, file_system, pinned, prepare, program
from bench.other_work import OtherWork, warning
from bench.report import Report
from bench.results import Found, demand_places, document, renewed
from bench.talk import WrongAnswer
from bench.walk import walk
from proxy.hot_path import built, outdated

_CASES: dict[str, Callable[[Bed], list[Report]]] = {
    # First of all: while the processes are fresh.
    "memory": memory.measure,
    "start": start.measure,
    "cpu": cpu.measure,
    "connections": connections.measure,
    "latency": latency.measure,
    "workers": workers.measure,
    "streaming": streaming.measure,
    "rules": rules.measure,
}
_README = Path(__file__).parent / "README.md"


@click.command()
@click.option("--quick", is_flag=True, help="One short round, to see that it works; its figures mean nothing.")
@click.option("--only", type=click.Choice(list(_CASES)), multiple=True, help="Only this case; may be repeated.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Rounds; the default is 3.")
@click.option("--walk", "walks", is_flag=True, help="Only count functions and files that a request passes through.")
@click.option("--write", is_flag=True, help="Put the tables of what was measured into bench/README.md.")
def main(*, quick: bool, only: tuple[str, ...], rounds: int | None, walks: bool, write: bool) -> None:
    """Measure payproxy beside its peers. Exit 0: measured; 1: an answer was wrong; 2: something is missing here."""
    if write and (quick or walks):
        raise click.UsageError("--write keeps the figures of whole windows only: leave out --quick and --walk")
    chosen = QUICK if quick else LONG
    effort = replace(chosen, rounds=rounds or chosen.rounds)
    try:
        if walks:
            click.echo(document([Found(case="walk", note="", machine="", reports=tuple(walk()))]))
            return
        cases = tuple(case for case in _CASES if case in only or not only)
        if write:
            demand_places(_README.read_text(), cases)
            envoy.binary()
        found = _measure(effort, cases)
        click.echo(document(found))
        if write:
            _README.write_text(renewed(_README.read_text(), found, cases=tuple(_CASES)))
    except Unfit as missing:
        click.echo(str(missing), err=True)
        sys.exit(2)
    except WrongAnswer as wrong:
        click.echo(str(wrong), err=True)
        sys.exit(1)


def _measure(effort: Effort, cases: tuple[str, ...]) -> list[Found]:
    if changed := outdated():
        raise Unfit(f"not as compiled: {', '.join(changed)}: install payproxy again")
    if said := warning():
        click.echo(said, err=True)
    prepare()
    with _bed(effort) as bed:
        began = CLOCK.monotonic()
        machine = _machine(bed)
        found = []
        for case in cases:
            click.echo(f"{CLOCK.monotonic() - began:4.0f} s  {case}", err=True)
            found.append(_found(case, bed, machine))
        click.echo(f"{CLOCK.monotonic() - began:4.0f} s  end", err=True)
        return found


def _found(case: str, bed: Bed, machine: str) -> Found:
    began, others = CLOCK.monotonic(), OtherWork()
    date = f"{datetime.fromtimestamp(CLOCK.now(), UTC):%Y-%m-%d %H:%M} UTC"
    reports = tuple(_CASES[case](bed))
    around = others.until_now()
    note = f"{date}, rounds: {bed.effort.rounds}, {CLOCK.monotonic() - began:.0f} s; {around}."
    return Found(case=case, note=note, machine=machine, reports=reports)


@contextmanager
def _bed(effort: Effort) -> Iterator[Bed]:
    with (
        tempfile.TemporaryDirectory(prefix="payproxy-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="payproxy-bench-", dir=_memory_backed()) as files,
        bank(Path(folder), files=Path(files), large_bytes=effort.megabytes * 1048576) as stand_in,
        ExitStack() as stack,
    ):
        yield Bed(
            bank=stand_in,
            effort=effort,
            directory=Path(folder),
            closed_loop=ClosedLoop(Path(folder), stand_in),
            commands=_commands(),
            stack=stack,
        )


def _commands() -> dict[str, Command]:
    try:
        envoy.binary()
    except Unfit as missing:
        click.echo(f"without Envoy: {missing}", err=True)
        return {name: command for name, command in COMMANDS.items() if not name.startswith("Envoy")}
    return COMMANDS


def _memory_backed() -> str | None:
    """Return a folder whose files don't touch a disk, so that streams are not measured by it."""
    shared = Path("/dev/shm")  # noqa: S108  a private folder with a name by lot is made in it
    return str(shared) if shared.is_dir() else None


def _machine(bed: Bed) -> str:
    nginx = subprocess.run([program("nginx", package="nginx-light"), "-v"], capture_output=True, text=True, check=True)
    versions = [f"payproxy {_version('payproxy')} ({built()})"]
    versions += [f"{name} {_version(name)}" for name in ("aiohttp", "httptools", "uvloop", "orjson")]
    versions.append(nginx.stderr.strip().rpartition(": ")[2].replace("/", " "))
    versions.append(f"Envoy {envoy.VERSION}" if bed.can_run("Envoy") else "no Envoy")
    return (
        f"{describe()}, logs and journal on {file_system(bed.directory) or 'an unknown file system'}; "
        f"{', '.join(versions)}; "
        f"{'candidate on one core, load and bank on another' if pinned() else 'ALL ON ONE CORE'}."
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(absent)"


if __name__ == "__main__":
    main()
