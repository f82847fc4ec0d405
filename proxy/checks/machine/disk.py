"""The data directory: who may write there, what the disk is, how full and how slow."""

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxy.checks.machine.line import Line, error, skipped, warning
from proxy.clock import Clock
from proxy.private_file import directory_exposed, directory_unusable

# Beside the spool: a segment of each journal, a month's database that grows, temporary files.
_BESIDE_BYTES = 256 << 20
# A POST waits for one write of its intent, which all requests of the moment share.
_SLOW_SECONDS = 0.02
_WRITES = 20
_BLOCK = b"\0" * 4096
_MEMORY = frozenset({"tmpfs", "ramfs"})
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs"})
_LAYERS = frozenset({"overlay", "aufs"})


def directory_lines(path: Path, *, us: int) -> Iterator[Line]:
    """Yield whether the data directory *path* is writable for this process of user *us*, and for nobody else."""
    fault = directory_exposed(path, us=us) or directory_unusable(path)
    if fault is not None:
        yield error("data directory", fault.what, fault.fix)
    else:
        state = "is private and writable" if path.is_dir() else "is not there yet and can be made"
        yield Line(check="data directory", what=f"{path} {state}")


def space_line(path: Path, *, spool_bytes: int) -> Line:
    """Return whether the disk of *path* has room for *spool_bytes* of records while a database is away."""
    there = _nearest(path)
    status = os.statvfs(there)
    free, needed = status.f_bavail * status.f_frsize, spool_bytes + _BESIDE_BYTES
    what = f"{_size(free)} free for {path}"
    if status.f_files and not status.f_favail:
        return error("disk space", f"no inode is free on the disk of {path}", f"look at `df -i {there}`")
    if free < needed:
        what = f"{what}, less than the {_size(needed)} that records may take while a database is away"
        fix = f"make room (`df -h {there}`), name a larger disk in data_directory, or lower request_log.spool_bytes"
        return warning("disk space", what, fix)
    return Line(check="disk space", what=what)


def write_times(path: Path, clock: Clock) -> list[float]:
    """Write some blocks to a temporary file in *path*, and return the seconds of each fdatasync; raises OSError."""
    times = []
    with tempfile.TemporaryFile(dir=_nearest(path)) as file:
        for _ in range(_WRITES):
            os.write(file.fileno(), _BLOCK)
            before = clock.monotonic()
            os.fdatasync(file.fileno())
            times.append(clock.monotonic() - before)
    return times


def latency_line(times: Sequence[float]) -> Line:
    """Return whether the disk is fast enough, by the *times* of fdatasync in seconds."""
    median, worst = statistics.median(times), max(times)
    what = f"fdatasync takes {median * 1000:.1f} ms ({worst * 1000:.1f} ms at worst)"
    if median <= _SLOW_SECONDS:
        return Line(check="disk latency", what=what)
    fix = 'name a faster disk in data_directory; request_log.durability = "async" does not wait, and may lose records'
    return warning("disk latency", f"{what}, which every payment waits for", fix)


def file_system_line(path: Path, mounts: str) -> Line:
    """Return whether the file system of *path* keeps what is written; *mounts* is the text of /proc/self/mounts."""
    kind, at = _mount_of(_nearest(path).resolve(), mounts)
    if not kind:
        return skipped("file system", f"the mount of {path} is not known")
    if kind in _MEMORY:
        what = f"{path} is in memory ({kind}): the records of requests are gone after a restart"
        return error("file system", what, "name a directory on a disk in data_directory")
    if kind in _REMOTE:
        what = f"{path} is on a network file system ({kind}), where locks and fdatasync may not hold"
        return warning("file system", what, "name a directory on a local disk or block device in data_directory")
    if kind in _LAYERS:
        what = f"{path} is in the container's own layer ({kind}): it is gone with the container"
        return warning("file system", what, f"mount a volume there: `-v payproxy-data:{path}`, or a volume claim")
    return Line(check="file system", what=f"{kind} on {at}")


def _mount_of(path: Path, mounts: str) -> tuple[str, str]:
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and path.is_relative_to(fields[1]) and len(fields[1]) >= len(best[1]):
            best = fields[2], fields[1]
    return best


def _nearest(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if os.path.isdir(one))  # noqa: PTH112 - never raises


def _size(amount: float) -> str:
    return f"{amount / (1 << 30):.1f} GiB" if amount >= 1 << 30 else f"{amount / (1 << 20):.0f} MiB"
