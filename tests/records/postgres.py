"""A PostgreSQL server of the tests' own, which can be killed and started again."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time  # noqa: TID251 - waiting for a process of another program
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg

from proxy.secret import Secret
from tests.support.leftovers import folder_prefix
from tests.support.ports import lasting_port

SUPERUSER = "owner"
PASSWORD = "correct horse"
START_SECONDS = 60.0


def binaries() -> Path | None:
    """Return where initdb and postgres are, if they are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A cluster in *directory* on a free port of 127.0.0.1, as a user other than root."""

    def __init__(self, directory: Path, binaries: Path) -> None:
        self._data = directory / "data"
        self._directory = directory
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "log"
        self._user = "postgres" if os.getuid() == 0 else ""
        self.port = lasting_port()

    def url(self, user: str = SUPERUSER, *, password: str = PASSWORD, database: str = "postgres") -> Secret:
        """Return the URL of *database* for *user*."""
        return Secret(f"postgresql://{user}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}")

    def create(self) -> None:
        """Make the cluster."""
        secret = self._directory / "password"
        secret.write_text(PASSWORD)
        if self._user:
            found = pwd.getpwnam(self._user)
            for path in (self._directory, secret):
                os.chown(path, found.pw_uid, found.pw_gid)
        self._run(
            "initdb", "-D", self._data, "-U", SUPERUSER, "--pwfile", secret, "-A", "scram-sha-256", "-N", "--no-locale",
            "-E", "UTF8",
        )  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *self._as_user(), str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port),
                    "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._directory}",
                    "-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=16MB",
                ],
                stdout=out, stderr=out, cwd=self._directory,
            )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while not self._accepts():
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(self.log.read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server as a crash does: postmaster and all that it started, with -9."""
        process, self._process = self._process, None
        if process is None:
            return
        pids = [process.pid]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids += [int(pid) for pid in children.read_text().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        # What a killed server leaves would make the next one wait for processes that are gone.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the server stop answering, its connections open."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _accepts(self) -> bool:
        ready = subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        return ready.returncode == 0

    def _as_user(self) -> list[str]:
        return (
            [f"{shutil.which('setpriv')}", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"]
            if (self._user)
            else []
        )

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [*self._as_user(), str(self._binaries / program), *map(str, arguments)],
            capture_output=True, text=True, check=False, cwd=self._directory,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_postgres(binaries: Path) -> Iterator[Postgres]:
    """Yield a server that runs, and take it away."""
    directory = Path(tempfile.mkdtemp(prefix=folder_prefix("postgres")))
    server = Postgres(directory, binaries)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


async def fetch(url: Secret, statement: str, *values: object) -> list[Any]:
    """Return the rows of *statement*."""
    connection = await asyncpg.connect(url.reveal())
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
        return rows
    finally:
        await connection.close()


async def execute(url: Secret, statements: str) -> None:
    """Run *statements*."""
    connection = await asyncpg.connect(url.reveal())
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def run_now(coroutine: Any) -> Any:
    """Return what *coroutine* comes to, on a loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
