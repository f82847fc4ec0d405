import contextlib
import socket
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.proc import limit_descriptors
from tests.journeys.process import kill
from tests.journeys.support import configured
from tests.journeys.waiting import until

STRANGERS = 595
DESCRIPTORS = 512


async def test_strangers_at_the_admin_listener_stop_nothing(tmp_path: Path, bank: Bank, start: Start) -> None:
    """More half requests than the keeper may have descriptors: it mints, replaces a worker, answers probes."""
    instance = await start(configured(tmp_path, bank.url))
    limit_descriptors(instance.pid, DESCRIPTORS)
    with contextlib.ExitStack() as strangers:
        for _ in range(STRANGERS):
            one = strangers.enter_context(socket.create_connection(instance.admin, timeout=30))
            with contextlib.suppress(ConnectionError):
                one.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")

        mints = bank.world.mint_count()
        bank.world.tokens.revoke()
        assert (await get(instance.address, "/payment/helloworld")).status == 200
        assert bank.world.mint_count() == mints + 1
        [victim] = await instance.serving()
        kill(victim)

        async def replaced() -> bool:
            return bool(set(await instance.serving()) - {victim})

        await until(replaced, otherwise="the worker was not replaced")
        assert (await get(instance.address, "/payment/helloworld")).status == 200
        assert await instance.is_ready()
    assert await instance.stop() == 0


async def test_a_worker_that_can_not_be_started_ends_nothing(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Without a descriptor for it the keeper goes on, says why, and starts it as soon as there is one."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))

    async def both() -> bool:
        return len(await instance.serving()) == 2

    await until(both, otherwise="two workers did not serve")
    victim, other = await instance.serving()
    limit_descriptors(instance.pid, 3)  # below what it has open, which stays
    kill(victim)

    await until(
        lambda: "can't be started: Too many open files; next try in" in instance.stderr.read_text(),
        otherwise="it was not said",
    )
    limit_descriptors(instance.pid, DESCRIPTORS)
    await until(both, otherwise="the worker was not replaced")
    assert other in await instance.serving()
    assert (await get(instance.address, "/payment/helloworld")).status == 200
