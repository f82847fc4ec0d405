"""`payproxy serve` as the process that it is, with its workers; whatever was started is ended, by process id."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.journeys.caller import Address, Answer, get
from tests.journeys.waiting import until

_SERVES = re.compile(r"serves callers on ([\d.]+):(\d+); admin on ([\d.]+):(\d+)")
_STOP_SECONDS = 60.0
_NOTHING: Mapping[str, str] = {}


class Process:
    """A child process of the test, its output in files that grow."""

    def __init__(self, process: asyncio.subprocess.Process, stdout: Path, stderr: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.stdout = stdout
        self.stderr = stderr

    @classmethod
    async def run(
        cls,
        directory: Path,
        *arguments: str,
        env: Mapping[str, str] = _NOTHING,
        python: str = sys.executable,
        pass_fds: Sequence[int] = (),
    ) -> Self:
        """Start *python* with *arguments*, with *directory* for its output and nothing of our environment but PATH."""
        paths = _new_outputs(directory)
        with paths[0].open("wb") as stdout, paths[1].open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                python,
                *arguments,
                cwd=Path(__file__).parents[2],
                env={"PATH": os.environ["PATH"], **env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
            )
        return cls(process, *paths)

    @property
    def output(self) -> str:
        """Return all that it has printed."""
        return self.stdout.read_text() + self.stderr.read_text()

    async def exit_code(self) -> int:
        """Return the exit code once it has ended by itself, killing it if that takes too long."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"process {self.pid} did not end:\n{self.stderr.read_text()}") from None

    async def kill(self) -> None:
        """End it by SIGKILL, if it has not ended."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


class Instance(Process):
    """A running payproxy: *address* for callers and *admin*, once it is `started`."""

    address: Address = ("", 0)
    admin: Address = ("", 0)
    known: frozenset[int] = frozenset()

    async def started(self, *, ready: bool) -> None:
        """Return when it listens and has workers; when *ready*, once /readyz says so."""
        await until(self._announced, otherwise=f"{self.stderr} does not say where it serves")
        await until(lambda: children(self.pid), otherwise="no worker was started")
        if ready:
            await until(self.is_ready, otherwise="the instance was not ready")

    async def is_ready(self) -> bool:
        """Return whether /readyz says so."""
        self._look_for_workers()
        return (await get(self.admin, "/readyz")).status == 200

    async def status(self) -> Any:
        """Return /api/status."""
        return (await get(self.admin, "/api/status")).json

    async def metrics(self) -> Answer:
        """Return /metrics."""
        return await get(self.admin, "/metrics")

    async def serving(self) -> list[int]:
        """Return the process ids of the workers that serve."""
        self._look_for_workers()
        return [worker["pid"] for worker in (await self.status())["workers"] if worker["state"] == "serving"]

    def terminate(self) -> None:
        """Send SIGTERM to the keeper."""
        self._look_for_workers()
        self.process.terminate()

    async def stop(self) -> int:
        """Send SIGTERM to the keeper and return its exit code."""
        self.terminate()
        return await self.exit_code()

    async def kill(self) -> None:
        """End the keeper, and nothing else, by SIGKILL."""
        self._look_for_workers()
        await super().kill()

    async def kill_all(self) -> None:
        """End keeper and workers by SIGKILL."""
        await self.kill()
        for pid in filter(is_worker, self.known):
            kill(pid)
        await self.workers_gone()

    async def workers_gone(self) -> None:
        """Return when no worker of this instance lives."""
        await until(lambda: not any(map(is_worker, self.known)), otherwise=f"workers among {set(self.known)} live on")

    async def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.returncode is None:
            self.terminate()
            with contextlib.suppress(AssertionError):
                await self.exit_code()
        await self.kill_all()

    def _look_for_workers(self) -> None:
        self.known |= children(self.pid)

    def _announced(self) -> bool:
        found = _SERVES.search(self.stderr.read_text())
        if found is None:
            assert self.process.returncode is None, f"it ended at once:\n{self.stderr.read_text()}"
            return False
        self.address, self.admin = (found[1], int(found[2])), (found[3], int(found[4]))
        return True


def _new_outputs(directory: Path) -> tuple[Path, Path]:
    number = len(list(directory.glob("stdout.*"))) + 1
    return directory / f"stdout.{number}", directory / f"stderr.{number}"


def children(pid: int) -> frozenset[int]:
    """Return the process ids of the children of *pid*; none if it has ended."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return frozenset(found)


def is_worker(pid: int) -> bool:
    """Return whether *pid* is a worker of payproxy that lives: numbers are given anew, and the dead may wait."""
    try:
        return b"proxy.worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def kill(pid: int) -> None:
    """Send SIGKILL to *pid*, if it lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
