"""Streaming: a large body in either direction: its speed, its CPU, and what it and a stalled one add to memory.

The bank's TLS and the caller share a core and are the limit for most candidates, so that speed says only whether a
candidate holds them up; what the transfer costs it is its CPU. Memory is that of candidates started for this case,
beyond what they needed for small requests: one that has carried a large body may have kept what it needs for the next.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.bank import FILES_PATH, LARGE, SMALL_PATH, Bank
from bench.bed import Bed, shuffled
from bench.candidates import Candidate
from bench.machine import CLOCK, cpu_seconds, pause, resident_bytes
from bench.report import Goal, Report, middle, ratio
from bench.talk import WrongAnswer, answer, ask, connected, read, request

_NAMES = ("payproxy", "nginx", "Envoy", "naive")
_MIB = 1048576
_PIECE = 262144
_SAMPLE_BYTES = 4 * _MIB
_STALLED = 20
_SMALL_REQUESTS = 200
# "At nginx's speed"; what is missing is noise of a few transfers.
_NGINX_SPEED = 0.95
_DOWN, _UP = "down", "up"

Figures = dict[tuple[str, str], list[float]]


def measure(bed: Bed) -> list[Report]:
    """Return the one report."""
    speed: Figures = {}
    cpu: Figures = {}
    growth: dict[tuple[str, str], float] = {}
    with bed.fresh(_NAMES) as candidates:
        for candidate in candidates.values():
            _warm(candidate, bed.bank)
        before = {name: resident_bytes(candidate.processes) for name, candidate in candidates.items()}
        for _ in range(bed.effort.rounds):
            for name in shuffled(list(candidates)):
                for way, transfer in ((_DOWN, _download), (_UP, _upload)):
                    seconds, used, most = _timed(transfer, candidates[name], bed)
                    speed.setdefault((name, way), []).append(bed.effort.megabytes / seconds)
                    cpu.setdefault((name, way), []).append(used * 1000 * 100 / bed.effort.megabytes)
                    grown = (most - before[name]) / _MIB
                    growth[name, way] = max(growth.get((name, way), 0.0), grown)
        stalled = {name: _stalled(candidate, before[name]) for name, candidate in candidates.items()}
        for candidate in candidates.values():
            _same_bytes(candidate, bed.bank)
    rows = [
        [
            name,
            *(
                cell
                for way in (_DOWN, _UP)
                for cell in (
                    f"{middle(speed[name, way]):,.0f}",
                    _beside_nginx(speed, name, way),
                    f"{middle(cpu[name, way]):.0f}",
                    f"{growth[name, way]:.1f}",
                )
            ),
            f"{stalled[name]:.2f}",
        ]
        for name in candidates
    ]
    head = (
        "candidate", "down MB/s", "by nginx's", "CPU ms/100 MB", "RSS grows MB",
        "up MB/s", "by nginx's", "CPU ms/100 MB", "RSS grows MB", "MB per stalled download",
    )  # fmt: skip
    return [Report.of(f"Streaming: {bed.effort.megabytes} MB", head, rows, _goals(speed, growth, stalled))]


def _goals(speed: Figures, growth: dict[tuple[str, str], float], stalled: dict[str, float]) -> list[Goal]:
    goals = []
    for way in (_DOWN, _UP):
        ours, theirs = ("payproxy", way), ("nginx", way)
        goals += [
            Goal(
                name=f"streaming {way}: MB/s by nginx's",
                value=ratio(speed[theirs], speed[ours]),
                limit=_NGINX_SPEED,
                unit="",
                at_most=False,
            ),
            Goal(name=f"streaming {way}: memory added", value=growth[ours], limit=6, unit="MB"),
        ]
    goals.append(Goal(name="memory per stalled download", value=stalled["payproxy"], limit=1.5, unit="MB"))
    return goals


def _beside_nginx(speed: Figures, name: str, way: str) -> str:
    return f"{ratio(speed['nginx', way], speed[name, way]):.2f}"


Watch = Callable[[], None]


def _timed(
    transfer: Callable[[Candidate, Bed, Watch], None], candidate: Candidate, bed: Bed
) -> tuple[float, float, int]:
    """Return the seconds of *transfer*, the candidate's CPU in seconds and its largest memory in bytes."""
    pids = candidate.processes
    used = cpu_seconds(pids)
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, resident_bytes(pids))

    started = CLOCK.monotonic()
    transfer(candidate, bed, watch)
    seconds = CLOCK.monotonic() - started
    watch()
    return seconds, cpu_seconds(pids) - used, most


def _warm(candidate: Candidate, bank: Bank) -> None:
    """Send small requests, so that what these need is not counted as a large body's."""
    with connected(candidate.port) as connection:
        for _ in range(_SMALL_REQUESTS):
            if ask(connection, request("GET", SMALL_PATH)) != (200, bank.small):
                raise WrongAnswer(f"{candidate.name} did not hand on the bank's answer")


def _download(candidate: Candidate, bed: Bed, watch: Watch) -> None:
    left = _SAMPLE_BYTES

    def take(piece: memoryview) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            left = _SAMPLE_BYTES
            watch()

    with connected(candidate.port) as connection:
        connection.sendall(request("GET", f"{FILES_PATH}/{LARGE}"))
        status, size = read(connection, take)
    if status != 200 or size != bed.effort.megabytes * _MIB:
        raise WrongAnswer(f"{candidate.name} sent {size} bytes with status {status}")


def _upload(candidate: Candidate, bed: Bed, watch: Watch) -> None:
    size = bed.effort.megabytes * _MIB
    stored = bed.bank.files / "uploaded"
    stored.unlink(missing_ok=True)
    piece = os.urandom(_PIECE)
    with connected(candidate.port) as connection:
        connection.sendall(request("PUT", f"{FILES_PATH}/uploaded", length=size))
        for begin in range(0, size, _PIECE):
            connection.sendall(piece)
            if begin % _SAMPLE_BYTES == 0:
                watch()
        status, _ = answer(connection)
    if status not in {201, 204} or stored.stat().st_size != size:
        raise WrongAnswer(f"{candidate.name} did not hand on {size} bytes (status {status})")


def _same_bytes(candidate: Candidate, bank: Bank) -> None:
    """Raise WrongAnswer unless a file has the same digest once downloaded, and once uploaded again."""
    digest = hashlib.sha256()
    with connected(candidate.port) as connection:
        connection.sendall(request("GET", f"{FILES_PATH}/{LARGE}"))
        read(connection, digest.update)
    if digest.digest() != _digest(bank.files / LARGE):
        raise WrongAnswer(f"{candidate.name} changed a download")
    size = (bank.files / LARGE).stat().st_size
    with connected(candidate.port) as connection, (bank.files / LARGE).open("rb") as file:
        connection.sendall(request("PUT", f"{FILES_PATH}/same", length=size))
        connection.sendfile(file)
        status, _ = answer(connection)
    if status not in {201, 204} or _digest(bank.files / "same") != digest.digest():
        raise WrongAnswer(f"{candidate.name} changed an upload (status {status})")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _stalled(candidate: Candidate, before: int) -> float:
    """Return the MB that a download adds whose caller does not read, since the candidate's memory was *before*."""
    with ExitStack() as stack:
        for _ in range(_STALLED):
            stack.enter_context(connected(candidate.port)).sendall(request("GET", f"{FILES_PATH}/{LARGE}"))
        pause(1.0)
        return (resident_bytes(candidate.processes) - before) / _STALLED / _MIB
