"""Streaming: a large body in either direction, its speed, and what it and a stalled one add to memory."""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack

from bench.bank import FILES_PATH, LARGE, Bank
from bench.bed import Bed, shuffled
from bench.candidates import Candidate
from bench.machine import CLOCK, pause, resident_bytes
from bench.report import Goal, Report, middle, ratio
from bench.talk import WrongAnswer, answer, connected, read, request

_NAMES = ("payproxy", "nginx", "Envoy", "naive")
_MIB = 1048576
_PIECE = 262144
_SAMPLE_BYTES = 4 * _MIB
_STALLED = 20
_DOWN, _UP = "down", "up"


def measure(bed: Bed) -> list[Report]:
    """Return the one report."""
    speed: dict[tuple[str, str], list[float]] = {}
    growth: dict[tuple[str, str], float] = {}
    stalled: dict[str, float] = {}
    candidates = bed.candidates(_NAMES)
    for name, candidate in candidates.items():
        stalled[name] = _stalled(candidate)
        _same_bytes(candidate, bed.bank)
    for _ in range(bed.effort.rounds):
        for name in shuffled(list(candidates)):
            for way, transfer in ((_DOWN, _download), (_UP, _upload)):
                seconds, grown = _timed(transfer, candidates[name], bed)
                speed.setdefault((name, way), []).append(bed.effort.megabytes / seconds)
                growth[name, way] = max(growth.get((name, way), 0.0), grown)
    rows = [
        [
            name,
            *(
                cell
                for way in (_DOWN, _UP)
                for cell in (
                    f"{middle(speed[name, way]):,.0f}",
                    _beside_nginx(speed, name, way),
                    f"{growth[name, way]:.1f}",
                )
            ),
            f"{stalled[name]:.2f}",
        ]
        for name in candidates
    ]
    head = (
        "candidate", "down MB/s", "by nginx's", "RSS grows MB", "up MB/s", "by nginx's", "RSS grows MB",
        "MB per stalled download",
    )  # fmt: skip
    return [Report.of(f"Streaming: {bed.effort.megabytes} MB", head, rows, _goals(speed, growth, stalled))]


def _goals(
    speed: dict[tuple[str, str], list[float]], growth: dict[tuple[str, str], float], stalled: dict[str, float]
) -> list[Goal]:
    goals = []
    for way in (_DOWN, _UP):
        ours, theirs = ("payproxy", way), ("nginx", way)
        goals += [
            Goal(
                name=f"streaming {way}: MB/s by nginx's",
                value=ratio(speed[theirs], speed[ours]),
                limit=0.9,
                unit="",
                at_most=False,
            ),
            Goal(name=f"streaming {way}: memory added", value=growth[ours], limit=6, unit="MB"),
        ]
    goals.append(Goal(name="memory per stalled download", value=stalled["payproxy"], limit=1.5, unit="MB"))
    return goals


def _beside_nginx(speed: dict[tuple[str, str], list[float]], name: str, way: str) -> str:
    return f"{ratio(speed['nginx', way], speed[name, way]):.2f}"


Watch = Callable[[], None]


def _timed(transfer: Callable[[Candidate, Bed, Watch], None], candidate: Candidate, bed: Bed) -> tuple[float, float]:
    """Return the seconds of *transfer* and by how many MB the candidate's memory grew at most."""
    pids = candidate.processes
    before = most = resident_bytes(pids)

    def watch() -> None:
        nonlocal most
        most = max(most, resident_bytes(pids))

    started = CLOCK.monotonic()
    transfer(candidate, bed, watch)
    return CLOCK.monotonic() - started, (most - before) / _MIB


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
    """Raise WrongAnswer unless a download has the same digest as the file."""
    digest = hashlib.sha256()
    with connected(candidate.port) as connection:
        connection.sendall(request("GET", f"{FILES_PATH}/{LARGE}"))
        read(connection, digest.update)
    with (bank.files / LARGE).open("rb") as file:
        if digest.digest() != hashlib.file_digest(file, "sha256").digest():
            raise WrongAnswer(f"{candidate.name} changed a download")


def _stalled(candidate: Candidate) -> float:
    """Return the MB that a download adds whose caller does not read."""
    before = resident_bytes(candidate.processes)
    with ExitStack() as stack:
        for _ in range(_STALLED):
            stack.enter_context(connected(candidate.port)).sendall(request("GET", f"{FILES_PATH}/{LARGE}"))
        pause(1.0)
        return (resident_bytes(candidate.processes) - before) / _STALLED / _MIB
