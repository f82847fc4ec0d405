import asyncio
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Address, Load, Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.open_connections import asked, calm, came, reset, soft_limit
from tests.journeys.proc import descriptor_limits, descriptors, limit_descriptors, resident, threads
from tests.journeys.support import configured
from tests.journeys.waiting import until

IDLE = 10_000
IDLE_BYTES = 10_240  # of memory for each idle caller
CHURN = 5_000
LEFT_BYTES = 67  # of memory that a caller who has gone may leave behind
ROUNDS = 15
HURRY = 0.5  # seconds that the median caller may wait beside many slow ones, on cores shared with other tests
REFUSED = Request(path="/nowhere")  # answered by the proxy itself


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    """Let this process have descriptors for each idle caller; what it starts begins with few."""
    with soft_limit(IDLE + 1000):
        yield


@pytest.mark.usefixtures("_many_descriptors")
async def test_ten_thousand_idle_callers_cost_ten_kilobytes_each(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Each was served once and stays; who comes next is served as fast as ever. Started with a limit of 1024 files."""
    with soft_limit(1024):
        instance = await start(configured(tmp_path, bank.url))
    [worker] = await instance.serving()
    for pid in (worker, instance.pid):
        soft, hard = descriptor_limits(pid)
        assert soft == hard
    await asyncio.to_thread(_warm_up, instance.address)
    before = resident(worker)

    callers: list[socket.socket] = []
    try:
        async with calm(instance.address) as other:
            await asyncio.to_thread(_connect_all, instance.address, callers)
        assert len(callers) == IDLE
        assert (resident(worker) - before) / IDLE <= IDLE_BYTES
        assert other.p50 < HURRY
        async with calm(instance.address, gap=0) as late:
            await until(lambda: len(late.took) > 100, otherwise="a new caller was not served")
        assert (late.statuses, late.p50 < HURRY) == ({200}, True)
        assert asked(callers[0], REFUSED).startswith(b"HTTP/1.1 404 ")
    finally:
        for one in callers:
            reset(one)
    assert (await get(instance.address, "/payment/helloworld")).status == 200


def _warm_up(address: Address) -> None:
    one = came(address)
    for _ in range(2000):
        asked(one, REFUSED)
    one.close()


def _connect_all(address: Address, callers: list[socket.socket]) -> None:
    for _ in range(IDLE):
        callers.append(came(address))
        assert asked(callers[-1], REFUSED).startswith(b"HTTP/1.1 404 ")


async def test_callers_that_come_and_go_leave_nothing_behind(tmp_path: Path, bank: Bank, start: Start) -> None:
    """In good order, with a reset, with half a head, with a body on its way, without a word: no descriptor stays."""
    instance = await start(configured(tmp_path, bank.url))
    [worker] = await instance.serving()
    await asyncio.to_thread(_come_and_go, instance.address, CHURN)
    before, memory = descriptors(worker), [resident(worker)]

    # What is kept for use again grows at first; what is left behind would grow in every round, LEFT_BYTES a caller.
    while len(memory) < 4 or memory[-1] - memory[-4] >= 3 * CHURN * LEFT_BYTES:
        assert len(memory) <= ROUNDS, f"its memory grows and grows: {memory}"
        await asyncio.to_thread(_come_and_go, instance.address, CHURN)
        memory.append(resident(worker))

    await until(lambda: descriptors(worker) <= before + 2, otherwise=f"{descriptors(worker)} descriptors, not {before}")
    assert threads(worker) <= 16
    assert (await get(instance.address, "/payment/helloworld")).status == 200


def _come_and_go(address: Address, number: int) -> None:
    half_a_body = payment("left").encode("localhost")[:-10]
    for count in range(number):
        one = came(address)
        match count % 10:
            case 0:
                assert asked(one, Request()).startswith(b"HTTP/1.1 200 ")
            case 1:
                one.sendall(b"GET /payment/hello")
            case 2:
                one.sendall(half_a_body)
            case 3:
                one.sendall(Request().encode("localhost"))
            case 4 | 5:
                pass
            case _:
                assert asked(one, REFUSED).startswith(b"HTTP/1.1 404 ")
        if count % 3:
            reset(one)
        else:
            one.close()


async def test_a_slow_bank_has_a_bounded_queue_before_it(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Five seconds for an answer, ten times the callers it has connections for: the rest hears 503 and when to return.

    No more than max_connections are ever at the bank, and nobody waits longer for a place than connect_timeout.
    """
    places, seconds = 8, 5.0
    server = f"max_requests = {places * 6}"
    instance = await start(_with_upstream(configured(tmp_path, bank.url, server=server), places))
    [worker] = await instance.serving()
    async with Load(instance.address, lambda _: REFUSED, connections=places * 10) as warm:
        await warm.goes_on(1000)
    memory = resident(worker)
    bank.world.faults.set("slow", path="/payment/helloworld", seconds=seconds)

    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(get(instance.address, "/payment/helloworld") for _ in range(places * 10)))
    took = asyncio.get_running_loop().time() - started

    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(served) == len(bank.world.seen("/payment/helloworld")) == places
    assert took < seconds * 1.5
    for answer in refused:
        assert (answer.status, answer.json["code"], answer.json["sent_upstream"]) == (503, "overloaded", "no")
        assert int(answer.headers["retry-after"]) >= 1
    kinds = {answer.json["detail"] for answer in refused}
    assert len(kinds) == 2, "some found max_requests in flight, some waited in vain for a connection"
    assert resident(worker) - memory < 4_000_000
    bank.world.faults.clear()
    assert (await get(instance.address, "/payment/helloworld")).status == 200


def _with_upstream(configuration: Path, places: int) -> Path:
    text = configuration.read_text()
    wanted = f"[upstreams.simulator]\nconnect_timeout = 1\nmax_connections = {places}\n"
    configuration.write_text(text.replace("[upstreams.simulator]\n", wanted))
    return configuration


async def test_a_hot_caller_does_not_starve_another(tmp_path: Path, bank: Bank, start: Start) -> None:
    """What exceeds its max_requests_per_second costs it a 429 each; the other caller gets all answers, and soon."""
    rate = 50
    instance = await start(_with_callers(configured(tmp_path, bank.url), hot=rate, other=0))
    hot, other = (Request(headers={"X-Payproxy-Key": name}) for name in ("hot", "other"))

    async with Load(instance.address, lambda _: hot, connections=20) as load, calm(instance.address, other) as calmly:
        started = asyncio.get_running_loop().time()
        await until(lambda: len(calmly.took) >= 200, otherwise="the other caller did not get on")
        await load.stop()
        passed = asyncio.get_running_loop().time() - started

    assert (calmly.statuses, calmly.p50 < HURRY) == ({200}, True)
    assert load.failures == []
    assert set(load.statuses) == {200, 429}, load.problems
    assert load.statuses[200] <= rate * (passed + 1) + 1
    assert load.statuses[429] > load.statuses[200]
    assert all(int(one.headers["retry-after"]) >= 1 for one in load.answers if one.status == 429)


def _with_callers(configuration: Path, **rates: int) -> Path:
    with configuration.open("a") as file:
        for name, rate in rates.items():
            digest = hashlib.sha256(name.encode()).hexdigest()
            file.write(f'\n[callers.{name}]\napi_key_sha256 = ["{digest}"]\nmax_requests_per_second = {rate}\n')
    return configuration


async def test_without_descriptors_nobody_is_turned_away_and_the_journal_goes_on(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Idle callers hold all that callers may have: who comes waits and is served later; who is there pays as ever.

    Health says why and takes it back; the instance stays ready. The journal's segments are so small that it opens many
    meanwhile.
    """
    instance = await start(configured(tmp_path, bank.url, request_log="stdout = false\nspool_bytes = 262144"))
    [worker] = await instance.serving()

    async def told(word: bytes) -> bool:
        answer = await get(instance.admin, "/readyz?verbose")
        return answer.status == 200 and word in answer.body

    limit_descriptors(worker, 1000)  # few enough that the worker counts them; it looks after 64 connections
    for _ in range(65):
        assert (await get(instance.address, "/payment/helloworld")).status == 200
    early = came(instance.address)
    callers = [came(instance.address) for _ in range(40)]
    await until(lambda: descriptors(worker) >= 50, otherwise="the connections were not accepted")
    limit_descriptors(worker, 64)

    callers += [came(instance.address) for _ in range(40)]
    waiting = asyncio.create_task(ask(instance.address, payment("waited")))
    await until(lambda: told(b"[!]callers degraded: worker"), otherwise="health did not say that callers wait")
    for number in range(40):
        answer = await asyncio.to_thread(asked, early, payment(f"early-{number}"))
        assert answer.startswith(b"HTTP/1.1 201 ")
    assert descriptors(worker) < 64
    assert not waiting.done()
    for one in callers:
        one.settimeout(0)
        with pytest.raises(BlockingIOError):
            one.recv(1)

    for one in callers:
        reset(one)
    assert (await waiting).status == 201
    await until(lambda: told(b"[+]callers ok"), otherwise="health did not take it back")
    assert _all_paid(bank, ["waited", *(f"early-{number}" for number in range(40))])
    early.close()
    assert await instance.serving() == [worker]
    assert await instance.stop() == 0


def _all_paid(bank: Bank, keys: list[str]) -> bool:
    return all(bank.world.accepted[key] == 1 for key in keys)
