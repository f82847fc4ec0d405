"""Faults put into the system calls of another process, by strace: where disks and kills can't be aimed otherwise."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

_ATTACH_SECONDS = 20.0
_DETACH_SECONDS = 2.0
# As /proc/net/tcp has it.
_ESTABLISHED = "01"


@asynccontextmanager
async def injected(
    pid: int, call: str, fault: str, *, output: Path, only: Iterable[str | Path] = ()
) -> AsyncIterator[None]:
    """Put *fault*, in strace's words, into each *call* of all threads of *pid* while the block lasts.

    Calls are told apart by what they are about, a path or `socket:[inode]`: *only* these, or all. *output* gets one
    line for each call. It ends before the block does if *pid* ends.
    """
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    if os.geteuid() != 0:
        pytest.skip("a worker is traced by root alone")
    paths = [argument for path in only for argument in ("-P", str(path))]
    tracer = await asyncio.create_subprocess_exec(
        *(program, "-f", "-y", "-p", str(pid), "-o", str(output), "-e", f"trace={call}"),
        *("-e", f"inject={call}:{fault}", *paths),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await _attached(tracer)
        yield
    finally:
        await _ended(tracer)


async def _ended(tracer: asyncio.subprocess.Process) -> None:
    """End *tracer*: of a process killed in several threads at once it may wait for one that is gone."""
    try:
        async with asyncio.timeout(_DETACH_SECONDS):
            with suppress(ProcessLookupError):
                tracer.terminate()
            await tracer.communicate()
    except TimeoutError:
        tracer.kill()
        await tracer.communicate()


async def _attached(tracer: asyncio.subprocess.Process) -> None:
    """Return once strace says so; paths that it resolves are told before."""
    assert tracer.stderr is not None
    told = b""
    async with asyncio.timeout(_ATTACH_SECONDS):
        while b"attached" not in told:
            line = await tracer.stderr.readline()
            told += line
            if b"not permitted" in told:
                pytest.skip("tracing is not permitted here")
            assert line, told.decode()


def socket_between(*, local: int = 0, remote: int = 0) -> str:
    """Return the one IPv4 connection with these ports (0: any) of this machine, as strace calls its descriptor."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(address.partition(":")[2], 16) for address in fields[1:3])
        if fields[3] == _ESTABLISHED and here == (local or here) and there == (remote or there):
            found.append(f"socket:[{fields[9]}]")
    [name] = found
    return name


def port(url: str) -> int:
    """Return the port in *url*."""
    found = re.search(r":(\d+)", url)
    assert found is not None
    return int(found[1])
