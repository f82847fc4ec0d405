import asyncio
import contextlib
import functools
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from proxy.keeper.admin_connections import MOST_STREAMS
from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, get
from tests.journeys.conftest import Start
from tests.journeys.open_connections import came
from tests.journeys.proc import resident
from tests.journeys.process import Instance
from tests.journeys.strace import injected
from tests.journeys.support import configured
from tests.journeys.waiting import until

EVENTS = b"GET /console/requests/tail/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASKED = Request(path="/payment/helloworld?" + "x" * 300)
MOST_BYTES = 20 * 1024 * 1024
TRANSFERS = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"


@contextlib.contextmanager
def tails(instance: Instance, number: int) -> Iterator[list[socket.socket]]:
    """Open *number* tails, each until its head has come; nothing more is read."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            one = stack.enter_context(came(instance.admin, receive_buffer=4096))
            one.sendall(EVENTS)
            opened.append(one)
        for one in opened:
            assert one.recv(12) == b"HTTP/1.1 200"
        yield opened


async def asked(instance: Instance, number: int) -> None:
    """Send *number* requests on a few connections."""
    async with Load(instance.address, lambda _: ASKED, connections=4) as load:
        await load.goes_on(number)
    assert set(load.statuses) == {200}, load.problems


async def test_200_tails_that_nobody_reads_take_20_mb_at_most_and_no_mint(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """While 4000 requests are recorded; one more is refused, probes and callers are served, and it stops at once."""
    instance = await start(configured(tmp_path, bank.url))
    await asked(instance, 4000)  # after which the keeper itself hardly grows
    assert (await get(instance.admin, "/console/requests/tail")).status == 200
    mints, before = bank.world.mint_count(), resident(instance.pid)
    most = before
    with tails(instance, MOST_STREAMS):
        for _ in range(8):
            await asked(instance, 500)
            most = max(most, resident(instance.pid))
        refused = await get(instance.admin, "/console/requests/tail/events")
        assert refused.status == 503
        assert await instance.is_ready()
        assert most - before < MOST_BYTES
        assert bank.world.mint_count() == mints
        assert await instance.stop() == 0
    assert "Traceback" not in instance.output


async def test_a_tail_does_no_work_in_a_worker(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With 50 tails that get all records as with none, the worker reports each second; nothing else is on its link."""
    instance = await start(configured(tmp_path, bank.url))
    [worker] = await instance.serving()
    await asked(instance, 1)  # that the first token works is reported once
    link = link_of(worker)
    calls: dict[int, str] = {}
    for followers in (0, 50):
        trace = tmp_path / f"trace.{followers}"
        with tails(instance, followers) as opened:
            async with injected(worker, TRANSFERS, "delay_exit=1", output=trace, only=[link]):
                await asked(instance, 300)
                await until(functools.partial(has_report, trace), otherwise="the worker has not reported")
            calls[followers] = trace.read_text()
            for one in opened:
                found = b""
                while b"event: record" not in found:
                    found += one.recv(4096)
    sent = {number: set(re.findall(r'"\[\\"(\w+)', text)) for number, text in calls.items()}
    came = {number: re.findall(r"(?:read|recv)\w*\(.*= [1-9]", text) for number, text in calls.items()}

    assert sent == {0: {"WorkerReport"}, 50: {"WorkerReport"}}
    assert came == {0: [], 50: []}


async def test_a_reload_ends_tails_and_so_does_a_stop(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With an event that says why, so that browsers connect again; SIGTERM waits for none."""
    instance = await start(configured(tmp_path, bank.url))
    ends = []
    for number in (signal.SIGHUP, signal.SIGTERM):
        with tails(instance, 1) as [one]:
            os.kill(instance.pid, number)
            ends.append(await asyncio.to_thread(rest, one))
    assert [re.findall(rb"event: end\ndata: (.*)", end) for end in ends] == [[b'{"why":"reload"}'], [b'{"why":"stop"}']]
    assert await instance.exit_code() == 0


def has_report(trace: Path) -> bool:
    """Return whether the worker has reported to the keeper."""
    return "WorkerReport" in trace.read_text()


def link_of(worker: int) -> str:
    """Return the socket of the link of *worker*, whose command line names its descriptor, as strace calls it."""
    descriptor = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")[-2].decode()
    return str(Path(f"/proc/{worker}/fd/{descriptor}").readlink())


def rest(one: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    return b"".join(iter(lambda: one.recv(4096), b""))
