"""Twenty systems on the ramp: each weight moves whom it should, in every worker, for as long as it stands."""

import asyncio
from pathlib import Path

from proxy.migration.side import point
from proxy.simulator.server import Bank
from tests.journeys.caller import Request
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines, record
from tests.journeys.fleet import SYSTEMS, Fleet, Told, configured, on_modern, received, side_of, statuses
from tests.journeys.migrated import migration, set_weight
from tests.journeys.process import Instance, kill
from tests.journeys.waiting import until

# 400 requests at a share of 0.3 have a standard deviation of 0.023: once in a million runs they are off by five of it.
SINGLY, SHARE, TOLERANCE = 400, 30, 0.115


async def test_a_weight_moves_whom_it_should_and_nobody_back(tmp_path: Path, bank: Bank, start: Start) -> None:
    """At 0, 10, 50 and 100 of 100, those whose point is below the weight are on modern, for reads and payments."""
    configuration = configured(tmp_path, bank)
    fleet = Fleet((await start(configuration)).address)
    before: set[str] = set()

    for weight in (0, 10, 50, 100):
        if weight:
            said = await set_weight(tmp_path, configuration, weight)
            assert set(said["to_modern"]) == on_modern(weight) - before
            assert said["to_legacy"] == []
        await _settles(fleet, bank, weight)

        told = await fleet.round(times=2)

        assert set(statuses(told)) == {200, 201}
        assert _modern(told, bank) == on_modern(weight)
        assert _modern(told, bank) >= before
        assert {system for system in SYSTEMS if _sides(told, bank, system) == {"legacy"}} == (
            set(SYSTEMS) - on_modern(weight)
        )
        before = on_modern(weight)


async def test_a_side_is_the_same_in_every_worker_and_after_a_restart(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Whichever process it comes upon: both of now, the one that replaces a killed one, those of another start."""
    configuration = configured(tmp_path, bank)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 50)
    await _settles(Fleet(instance.address), bank, 50)
    sides = await _by_worker(instance, tmp_path, bank)

    kill((await instance.serving())[0])
    await until(lambda: _both_serve(instance), otherwise="the killed worker was not replaced")
    replaced = await _by_worker(instance, tmp_path, bank)
    assert await instance.stop() == 0
    again = await start(configuration)
    after = await _by_worker(again, tmp_path, bank)

    assert [len(one) for one in (sides, replaced, after)] == [2, 2, 2]
    assert len({*sides, *replaced}) == 3
    for modern in (*sides.values(), *replaced.values(), *after.values()):
        assert modern == on_modern(50)


async def test_a_single_caller_gets_its_share_by_requests(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With sticky = "request" each GET goes by itself; what can pay goes where its caller belongs."""
    reader = max(SYSTEMS, key=lambda system: point("payments", system))
    configuration = configured(tmp_path, bank, systems=[reader], migration='sticky = "request"\nmethods = ["GET"]')
    instance = await start(configuration)
    fleet = Fleet(instance.address, names=(reader,))
    said = await set_weight(tmp_path, configuration, SHARE)
    assert (said["spread"], said["modern_share_after"]) == ("GET requests", SHARE / 100)

    async def begun() -> bool:
        told = await asyncio.gather(*(fleet.ask_in_turn(reader, [Request()] * 5) for _ in range(8)))
        return all(_modern(each, bank) for each in told)

    await until(begun, otherwise="not every worker had the weight")
    told = [
        one
        for each in await asyncio.gather(*(fleet.ask_in_turn(reader, [Request()] * 50) for _ in range(SINGLY // 50)))
        for one in each
    ]
    paid = await fleet.round(times=5)

    share = sum(_side(one, bank) == "modern" for one in told) / len(told)
    assert abs(share - SHARE / 100) < TOLERANCE
    assert {_side(one, bank) for one in paid if one.request.method == "POST"} == {"legacy"}
    first = await until(lambda: record(tmp_path, told[0].answer.request_id), otherwise="there was no record")
    assert first["why"].startswith(f"weight {SHARE}, cohort 0.")


async def test_pins_stay_whatever_the_weight(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A system pinned to modern is there at weight 0, one pinned to legacy stays there at 100; the log says why."""
    early, late = "erp-09", "erp-03"
    configuration = configured(tmp_path, bank, migration=f'pin = {{ legacy = ["{late}"], modern = ["{early}"] }}')
    instance = await start(configuration)
    fleet = Fleet(instance.address)
    assert _modern(await fleet.round(), bank) == {early}

    await set_weight(tmp_path, configuration, 100)

    await _settles(fleet, bank, 100, but=late)
    told = await fleet.asks(late, Request())
    found = await until(lambda: record(tmp_path, told.answer.request_id), otherwise="there was no record")
    assert (found["side"], found["why"]) == ("legacy", "the caller is pinned to legacy")


async def test_a_weight_that_moves_nobody_is_refused(tmp_path: Path, bank: Bank, start: Start) -> None:
    """So that no operator waits for traffic that can't come; the plan names the weights at which somebody moves."""
    configuration = configured(tmp_path, bank, systems=["erp-07", "erp-04"])
    await start(configuration)

    code, said = await migration(tmp_path, configuration, "set", "payments", "20", "--reason", "a test")
    assert (code, "nobody moves" in said) == (1, True)
    code, plan = await migration(tmp_path, configuration, "plan", "payments")
    assert code == 0
    assert [(step["caller"], step["moves_at"]) for step in plan["callers"]] == [("erp-07", 26), ("erp-04", 28)]


async def _settles(fleet: Fleet, bank: Bank, weight: int, *, but: str = "") -> None:
    """Return once reads of all systems, each on a connection of its own, go where *weight* sends them."""

    async def settled() -> bool:
        told = await asyncio.gather(*(fleet.asks(system, Request()) for system in SYSTEMS))
        return _modern(told, bank) == on_modern(weight) - {but}

    await until(settled, otherwise="not every worker had the weight")


async def _both_serve(instance: Instance) -> bool:
    return len(await instance.serving()) == 2


async def _by_worker(instance: Instance, directory: Path, bank: Bank) -> dict[str, set[str]]:
    """Return by worker who was on modern there, once every system came to every worker."""
    fleet = Fleet(instance.address)
    seen: dict[str, list[Told]] = {}

    async def came_to_both() -> bool:
        told = await asyncio.gather(*(fleet.asks(system, Request()) for system in SYSTEMS))
        ids = {one.answer.request_id: one for one in told}
        workers = await until(lambda: _workers_of(directory, set(ids)), otherwise="a journal lacks a request")
        for id_, worker in workers.items():
            seen.setdefault(worker, []).append(ids[id_])
        return len(seen) > 1 and all({one.system for one in each} == set(SYSTEMS) for each in seen.values())

    await until(came_to_both, otherwise="not every system came to every worker")
    return {worker: _modern(told, bank) for worker, told in seen.items()}


def _workers_of(directory: Path, ids: set[str]) -> dict[str, str]:
    """Return by id the worker in whose journal it is, {} until all are found."""
    found = {
        line["id"]: path.stem.rpartition("-")[0]
        for path in (directory / "data" / "journal").glob("*.jsonl")
        for line in lines(path)
        if line["kind"] == "exchange" and line["id"] in ids
    }
    return found if found.keys() == ids else {}


def _modern(told: list[Told], bank: Bank) -> set[str]:
    """Return the systems of *told* that were on modern with anything."""
    return {one.system for one in told if _side(one, bank) == "modern"}


def _sides(told: list[Told], bank: Bank, system: str) -> set[str]:
    return {_side(one, bank) for one in told if one.system == system}


def _side(one: Told, bank: Bank) -> str:
    [sent] = received(bank)[one.number]
    return side_of(sent, bank)
