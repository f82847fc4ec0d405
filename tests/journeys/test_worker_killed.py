import asyncio
from pathlib import Path
from typing import Any

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines, record, records
from tests.journeys.process import Instance, kill
from tests.journeys.support import configured
from tests.journeys.waiting import until

SLOW = 16
SLOW_SECONDS = 4.0


async def test_both_workers_serve(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With workers = 2 the connections are spread over two processes, each with the token and a journal of its own."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    await _both_serve(instance)

    # That all of 40 connections go to one of two workers happens once in 10^12.
    keys = {f"order-{number}" for number in range(40)}
    answers = await asyncio.gather(*(ask(instance.address, payment(key)) for key in keys))

    assert {answer.status for answer in answers} == {201}
    written: dict[str, set[str]] = {"w0": set(), "w1": set()}
    for path in (tmp_path / "data" / "journal").glob("w*.jsonl"):
        written[path.name[:2]] |= {each["index"]["Idempotency-Key"] for each in lines(path)}
    assert written["w0"]
    assert written["w1"]
    assert written["w0"] | written["w1"] == keys
    assert not written["w0"] & written["w1"]


async def test_a_killed_worker_is_replaced_and_what_it_had_in_flight_reads_unknown(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """One of two workers is killed under load: the other's requests end well, new ones are served by both again."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    await _both_serve(instance)
    victim, other = await instance.serving()
    bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=SLOW_SECONDS)

    slow = [asyncio.create_task(ask(instance.address, payment(f"slow-{number}"))) for number in range(SLOW)]
    async with Load(instance.address, lambda _: Request(), connections=8, stubborn=True) as load:
        await until(lambda: bank.world.accepted.total() == SLOW, otherwise="the bank did not get all payments")
        await load.goes_on(100)
        kill(victim)
        await until(lambda: _replaced(instance, victim), otherwise="the worker was not replaced")
        await load.goes_on(100)
        new = await asyncio.gather(*(get(instance.address, "/payment/helloworld") for _ in range(40)))
    outcomes = await asyncio.gather(*slow, return_exceptions=True)

    assert {answer.status for answer in new} == {200}
    # The load had at most one request on each connection of the victim.
    assert len(load.failures) <= 8
    assert set(load.statuses) == {200}, load.problems
    assert other in await instance.serving()
    cut = {f"slow-{number}" for number, outcome in enumerate(outcomes) if isinstance(outcome, Exception)}
    assert 0 < len(cut) < SLOW
    assert {outcome.status for outcome in outcomes if not isinstance(outcome, BaseException)} == {201}
    # Nothing was sent twice, whatever became of it.
    assert bank.world.accepted == {f"slow-{number}": 1 for number in range(SLOW)}
    told = await until(lambda: _all_told(tmp_path), otherwise="not every payment has a record")
    for key, (sent, status, note) in told.items():
        assert (sent, status, note) == (("unknown", 0, "worker_ended") if key in cut else ("yes", 201, ""))
    # An alert has to see them too, and sees counters.
    counted = f'payproxy_exchanges_total{{http_route="payments",sent_upstream="unknown"}} {len(cut)}.0'
    assert counted in (await instance.metrics()).body.decode()


async def test_a_worker_that_dies_with_a_refused_token_in_hand_tells_both_sends(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """A worker killed during the second send: the record has both attempts, the last one unknown."""
    instance = await start(configured(tmp_path, bank.url))
    await ask(instance.address, payment("first"))
    bank.world.tokens.revoke()
    bank.world.faults.set("slow", path="/payment/v2/payments", seconds=SLOW_SECONDS)

    twice = asyncio.create_task(ask(instance.address, payment("twice")))
    await until(lambda: bank.world.accepted["twice"], otherwise="the bank did not get the second send")
    for pid in await instance.serving():
        kill(pid)
    [outcome] = await asyncio.gather(twice, return_exceptions=True)

    assert isinstance(outcome, OSError | EOFError)
    logged = await until(
        lambda: next((each for each in records(tmp_path) if each["index"]["Idempotency-Key"] == "twice"), None),
        otherwise="there was no record",
    )
    assert [attempt["sent"] for attempt in logged["attempts"]] == ["yes", "unknown"]
    assert (logged["sent_upstream"], logged["replayed"]) == ("unknown", True)
    again = await until(lambda: _asked(instance), otherwise="no new worker served")
    assert await until(lambda: record(tmp_path, again), otherwise="the new worker's record is missing")


async def _both_serve(instance: Instance) -> None:
    async def serve() -> bool:
        return len(await instance.serving()) == 2

    await until(serve, otherwise="two workers did not serve")


async def _replaced(instance: Instance, victim: int) -> bool:
    serving = await instance.serving()
    return len(serving) == 2 and victim not in serving


async def _asked(instance: Instance) -> str:
    answer = await get(instance.address, "/payment/helloworld")
    return answer.request_id if answer.status == 200 else ""


def _all_told(directory: Path) -> dict[str, tuple[str, int, str]]:
    told = {
        each["index"]["Idempotency-Key"]: (each["sent_upstream"], each["status"], each["note"])
        for each in records(directory)
        if each["method"] == "POST"
    }
    return told if len(told) == SLOW else {}


async def test_what_a_killed_worker_had_begun_without_an_intent_is_counted(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Reads have none: a record of the log says how many of them there were, of which worker, and between when."""
    instance = await start(configured(tmp_path, bank.url))
    for _ in range(5):
        assert (await get(instance.address, "/payment/helloworld")).status == 200
    bank.world.faults.set("slow", path="/payment/helloworld", seconds=60.0)
    reads = [asyncio.create_task(get(instance.address, "/payment/helloworld")) for _ in range(SLOW)]
    await until(
        lambda: len(bank.world.seen("/payment/helloworld")) == 5 + SLOW, otherwise="the bank did not get all reads"
    )
    [victim] = await instance.serving()
    kill(victim)
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(one, OSError | EOFError) for one in outcomes)

    [lost] = await until(lambda: _losses(tmp_path), otherwise="the log does not say that records are missing")

    assert lost["kind"] == "lifecycle"
    # A request that had its answer may be in the journal or not, depending on the moment.
    assert SLOW <= lost["count"] <= SLOW + 5
    assert lost["count"] + len(records(tmp_path)) == SLOW + 5
    assert f"-{victim}-" in lost["worker"]
    assert lost["since"] < lost["until"] <= lost["time"]
    # An alert has to see them too.
    counted = f"\npayproxy_records_lost_total {lost['count']}.0\n"

    async def seen() -> bool:
        return counted in (await instance.metrics()).body.decode()

    await until(seen, otherwise="the metric does not say that records are missing")


async def test_a_worker_that_ends_in_order_has_lost_nothing(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Whatever it was asked: each request that it has begun has a record."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    bank.world.faults.set("slow", path="/payment/helloworld", seconds=0.2)
    requests = [Request(), payment("one"), Request(path="/nowhere"), Request(method="BREW"), Request(path="/a/../b")]
    await asyncio.gather(*(ask(instance.address, request) for request in requests * 10))
    left = asyncio.create_task(get(instance.address, "/payment/helloworld"))
    await until(lambda: len(bank.world.seen("/payment/helloworld")) == 11, otherwise="the bank did not get it")
    left.cancel()

    await instance.stop()

    assert len(records(tmp_path)) == len(requests) * 10 + 1
    assert _losses(tmp_path) == []


def _losses(directory: Path) -> list[dict[str, Any]]:
    path = directory / "requests.jsonl"
    return [one for one in (lines(path) if path.exists() else ()) if one.get("event") == "records_lost"]
