"""The HAProxy of deploy/compose, with its own configuration, in front of addresses on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.deploy.support import ROOT, program
from tests.journeys.caller import Address
from tests.journeys.waiting import until
from tests.support.ports import lasting_port

CONFIGURATION = ROOT / "deploy" / "compose" / "haproxy.cfg"


def environment(port: int, replicas: Sequence[tuple[Address, Address]]) -> dict[str, str]:
    """Return the variables of haproxy.cfg: where it listens, and traffic and admin address of each replica."""
    variables = {"LISTEN": f"127.0.0.1:{port}"}
    for number, ((host, traffic), (_, admin)) in enumerate(replicas, 1):
        variables[f"PAYPROXY_{number}"] = f"{host}:{traffic}"
        variables[f"PAYPROXY_{number}_ADMIN_PORT"] = str(admin)
    return variables


@asynccontextmanager
async def haproxy(
    folder: Path, replicas: Sequence[tuple[Address, Address]], *, configuration: Path = CONFIGURATION
) -> AsyncIterator[Address]:
    """Run it for the block, and yield where it listens once it has found a replica that is ready."""
    port = lasting_port()
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program("haproxy"), "-db", "-f", str(configuration),
            env=environment(port, replicas), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        await until(lambda: _listens(port), otherwise=f"haproxy does not listen: {log}")
        yield "127.0.0.1", port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
