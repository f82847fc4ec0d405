"""A data directory with a log in its database, and a configuration that knows it."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from proxy.records.masking_key import KEY_FILE
from proxy.records.sinks.sqlite import SqliteSink
from tests.cli.support import PAYPROXY, environment
from tests.records.kept import kept
from tests.settings.support import PLAIN

DATA = "payproxy-data"
# What tests/records/kept.py masks with.
KEY = b"k" * 32


def make_log(folder: Path, records: list[bytes], *, settings: str = "") -> list[bytes]:
    """Write a configuration with *settings* in [request_log] to *folder*, and *records* into its database."""
    (folder / "payproxy.toml").write_text(f"{PLAIN}\n[request_log]\n{settings}\n")
    (folder / "secret").write_text("s")
    (folder / "secret").chmod(0o600)
    data = folder / DATA
    data.mkdir(mode=0o700, exist_ok=True)
    (data / KEY_FILE).touch(mode=0o600)
    (data / KEY_FILE).write_bytes(KEY)
    lines = kept(records)
    asyncio.run(_fill(data / "requests.db", lines))
    return lines


def add(folder: Path, lines: list[bytes]) -> None:
    """Write *lines* into the database, as the proxy does while commands read it."""
    asyncio.run(_fill(folder / DATA / "requests.db", lines))


async def _fill(database: Path, lines: list[bytes]) -> None:
    sink = SqliteSink(database)
    for at in range(0, len(lines), 20):
        await sink.write(lines[at : at + 20])
    await sink.close()


@contextlib.contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield `payproxy` with *arguments* while it runs, its stdout to be read, and end it."""
    with subprocess.Popen(
        [PAYPROXY, *arguments], cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
