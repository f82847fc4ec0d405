"""Ends what a run has left when it is over or interrupted: processes, mounts, PostgreSQL's folders.

With pytest-xdist the tests run in child processes, which are killed on an interrupt if they do not end soon. What they
have started then belongs to the process that the user started, since that asks Linux for it, and is killed there.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time  # noqa: TID251  the run's own time
from pathlib import Path

_RUN = "TESTS_RUN"
_SET_CHILD_SUBREAPER = 36
_LOOK_AGAIN_SECONDS = 0.1
_KILLED_SECONDS = 10.0


def begin_run(*, in_child_processes: bool) -> None:
    """Make this process, which the user started, the parent of all that lose theirs; SIGTERM ends it as SIGINT does."""
    os.environ[_RUN] = str(os.getpid())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if in_child_processes:  # else orphans stay with init: there is nobody to take their exit codes
        _become_parent_of_orphans()
        threading.Thread(target=_take_exit_codes, daemon=True).start()


def end_run(folder: Path) -> None:
    """Kill what is still running, unmount what is mounted in *folder*, and remove PostgreSQL's folders."""
    _become_parent_of_orphans()  # init may leave a killed one as a zombie for a while
    given_up = time.monotonic() + _KILLED_SECONDS
    while (left := _descendants(os.getpid())) and time.monotonic() < given_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _take_exit_code()
        time.sleep(0.01)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["/bin/umount", "-l", line.split()[1]], check=False)
    for made in Path(tempfile.gettempdir()).glob(f"{folder_prefix('postgres')}*"):
        shutil.rmtree(made, ignore_errors=True)


def folder_prefix(kind: str) -> str:
    """Return how the name of a folder outside of pytest's own begins, by which the end of the run finds it."""
    return f"payproxy-{kind}-{os.environ.get(_RUN, 'alone')}-"


def _become_parent_of_orphans() -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _take_exit_codes() -> None:
    """Let orphans that have ended disappear, as init would: some tests wait for that."""
    while True:
        _take_exit_code()
        time.sleep(_LOOK_AGAIN_SECONDS)


def _take_exit_code() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found
