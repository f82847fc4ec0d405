"""What the operating system says of processes: CPU time, memory, kinship; and on which core they run."""

import os
import platform
import resource
import shutil
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy.clock import SystemClock

CLOCK = SystemClock()
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# With two cores or more: load and upstream on one, the candidate on the other.
_LOAD_CORE, PROXY_CORE = 0, 1
_STOP_SECONDS = 15.0
_DESCRIPTORS = 16384


class Unfit(Exception):
    """This machine lacks something that the benchmark needs."""


def prepare() -> None:
    """Pin this process and what it starts to the load's core, and allow thousands of connections."""
    if pinned():
        os.sched_setaffinity(0, {_LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pause(seconds: float) -> None:
    """Do nothing for *seconds*."""
    threading.Event().wait(seconds)


def pinned() -> bool:
    """Return whether there are cores enough to keep candidate and load apart."""
    return (os.cpu_count() or 1) > PROXY_CORE


def program(name: str, *, package: str) -> str:
    """Return where *name* is installed; raises Unfit naming the *package* that brings it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Unfit(f"{name} is missing: apt-get install {package}")
    return found


@contextmanager
def running(
    command: Sequence[str], *, log: Path, core: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* while the block lasts, with its output in *log*, by default in our own *environment*."""
    prefix = ["taskset", "-c", str(core)] if core is not None and pinned() else []
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [*prefix, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def family(root: int) -> list[int]:
    """Return *root* and the processes below it, parents first."""
    children: dict[int, list[int]] = {}
    for pid in processes():
        fields = _stat(f"{pid}")
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += sorted(children.get(pid, []))
    return found


def cpu_seconds(pids: Iterable[int], *, reaped: bool = False) -> float:
    """Return what all threads of *pids* have used so far, user and system; with *reaped*, ended children too."""
    total = 0
    for pid in pids:
        total += sum(int(field) for field in _stat(f"{pid}")[11 : 15 if reaped else 13])
    return total * TICK_SECONDS


def threads(pid: int) -> dict[int, str]:
    """Return the threads of *pid* and their names."""
    return {int(task.name): (task / "comm").read_text().strip() for task in sorted(Path(f"/proc/{pid}/task").iterdir())}


def thread_seconds(pid: int, thread: int) -> float:
    """Return what *thread* of *pid* has used so far, user and system."""
    return sum(int(field) for field in _stat(f"{pid}/task/{thread}")[11:13]) * TICK_SECONDS


def processes() -> list[int]:
    """Return all processes of the machine that can be seen from here."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def stolen_seconds() -> float:
    """Return for how long a hypervisor gave our cores to others (proc(5), /proc/stat: steal)."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) * TICK_SECONDS


def file_system(path: Path) -> str:
    """Return the type of file system on which *path* lies, "" if that can't be told."""
    told = subprocess.run(
        ["findmnt", "-no", "FSTYPE", "-T", str(path)],  # noqa: S607  util-linux, as taskset
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of *pids*; pages that they share count in each."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in pids)


def proportional_bytes(pid: int) -> int:
    """Return the memory of *pid* in which a page that n processes share counts as an n-th; 0 if that is not shown."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:  # payproxy protects its memory: only root may look
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def describe() -> str:
    """Return processor, cores, kernel and Python in a line."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return (
        f"{os.cpu_count()} cores of {model}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}{_build()}"
    )


def _build() -> str:
    """Return what makes this Python slower than the distributions' and images' by some 15 %, if it is so built."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "" if "--enable-optimizations" in arguments else " (built without --enable-optimizations)"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def _stat(process: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (proc(5): field 3), [] for a process that is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
