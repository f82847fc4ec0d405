"""`python -m bench`: payproxy beside nginx, Envoy and a naive proxy, everything on loopback, one table at the end."""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import envoy
from bench.bank import bank
from bench.bed import LONG, QUICK, Bed, Effort
from bench.candidates import PEERS, Command, payproxy
from bench.cases import cpu, latency, memory, scale, start, streaming
from bench.load import ClosedLoop
from bench.machine import CLOCK, Unfit, describe, pinned, prepare, program
from bench.report import Report, document
from bench.talk import WrongAnswer
from bench.walk import walk
from proxy.hot_path import built, outdated

_CASES: dict[str, Callable[[Bed], list[Report]]] = {
    # First of all: while the processes are fresh.
    "memory": memory.measure,
    "start": start.measure,
    "cpu": cpu.measure,
    "latency": latency.measure,
    "streaming": streaming.measure,
    "scale": scale.measure,
}
_README = Path(__file__).parent / "README.md"
_RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)


@click.command()
@click.option("--quick", is_flag=True, help="One short round, to see that it works; its figures mean nothing.")
@click.option("--only", type=click.Choice(list(_CASES)), multiple=True, help="Only this case; may be repeated.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Rounds; the default is 3.")
@click.option("--walk", "walks", is_flag=True, help="Only count functions and files that a request passes through.")
@click.option("--write", is_flag=True, help="Put the results into bench/README.md.")
def main(*, quick: bool, only: tuple[str, ...], rounds: int | None, walks: bool, write: bool) -> None:
    """Measure payproxy beside its peers. Exit 0: measured; 1: an answer was wrong; 2: something is missing here."""
    chosen = QUICK if quick else LONG
    effort = replace(chosen, rounds=rounds or chosen.rounds)
    try:
        if walks:
            click.echo(document(walk()))
            return
        text = _measure(effort, tuple(case for case in _CASES if case in only or not only))
    except Unfit as missing:
        click.echo(str(missing), err=True)
        sys.exit(2)
    except WrongAnswer as wrong:
        click.echo(str(wrong), err=True)
        sys.exit(1)
    click.echo(text)
    if write:
        _README.write_text(_RESULTS.sub(lambda _: "\n" + text + "\n", _README.read_text()))


def _measure(effort: Effort, cases: tuple[str, ...]) -> str:
    if changed := outdated():
        raise Unfit(f"not as compiled: {', '.join(changed)}: install payproxy again")
    prepare()
    started = CLOCK.monotonic()
    reports = []
    with (
        tempfile.TemporaryDirectory(prefix="payproxy-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="payproxy-bench-", dir=_memory_backed()) as files,
        bank(Path(folder), files=Path(files), large_bytes=effort.megabytes * 1048576) as stand_in,
        ExitStack() as stack,
    ):
        commands = _commands()
        bed = Bed(
            bank=stand_in,
            effort=effort,
            directory=Path(folder),
            closed_loop=ClosedLoop(Path(folder)),
            commands=commands,
            stack=stack,
        )
        for case in cases:
            click.echo(f"{CLOCK.monotonic() - started:4.0f} s  {case}", err=True)
            reports += _CASES[case](bed)
    return f"{_circumstances(effort, commands, CLOCK.monotonic() - started)}\n\n{document(reports)}"


def _commands() -> dict[str, Command]:
    commands = {
        "payproxy": payproxy(),
        "payproxy async": payproxy(durability="async"),
        "payproxy two": payproxy(workers=2),
        "payproxy, SQLite": payproxy(database="sqlite:requests.db"),
        **PEERS,
    }
    try:
        envoy.binary()
    except Unfit as missing:
        click.echo(f"without Envoy: {missing}", err=True)
        del commands["Envoy"]
    return commands


def _memory_backed() -> str | None:
    """Return a folder whose files don't touch a disk, so that streams are not measured by it."""
    shared = Path("/dev/shm")  # noqa: S108  a private folder with a name by lot is made in it
    return str(shared) if shared.is_dir() else None


def _circumstances(effort: Effort, commands: dict[str, Command], seconds: float) -> str:
    nginx = subprocess.run([program("nginx", package="nginx-light"), "-v"], capture_output=True, text=True, check=True)
    versions = [f"payproxy {_version('payproxy')} ({built()})"]
    versions += [f"{name} {_version(name)}" for name in ("aiohttp", "httptools", "uvloop", "orjson")]
    versions.append(nginx.stderr.strip().rpartition(": ")[2].replace("/", " "))
    if "Envoy" in commands:
        versions.append(f"Envoy {envoy.VERSION}")
    return (
        f"{datetime.fromtimestamp(CLOCK.now(), UTC):%Y-%m-%d}, {describe()}; {', '.join(versions)}. "
        f"{effort.rounds} rounds of windows of {effort.seconds} s, medians; "
        f"{'candidate on one core, load and bank on another' if pinned() else 'ALL ON ONE CORE'}; {seconds:.0f} s."
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(absent)"


if __name__ == "__main__":
    main()
