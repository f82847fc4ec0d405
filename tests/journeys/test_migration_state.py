"""The weight of a migration in processes: everywhere within two seconds, there again, never by accident."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, lines
from tests.journeys.migrated import all_on, migrated, migration, set_weight, side_of
from tests.journeys.process import Instance, kill
from tests.journeys.waiting import until


async def test_a_weight_reaches_both_workers_and_survives_a_restart(tmp_path: Path, bank: Bank, start: Start) -> None:
    """To the last worker; versions grow; so does a rollback. How soon: tests/journeys/test_migration_under_load.py."""
    configuration = migrated(tmp_path, bank, server="workers = 2")
    instance = await start(configuration)
    assert await all_on(instance, tmp_path, "legacy")

    state = await set_weight(tmp_path, configuration, 100)

    assert (state["weight"], state["version"], state["phase"]) == (100, 1, "modern")
    await until(lambda: all_on(instance, tmp_path, "modern"), otherwise="not every worker had the weight")
    assert await instance.stop() == 0

    again = await start(configuration)
    assert await all_on(again, tmp_path, "modern")
    code, state = await migration(tmp_path, configuration, "rollback", "payments", "--reason", "back")
    assert (code, state["weight"], state["version"]) == (0, 0, 2)
    assert state["legacy_token_at_hand"]
    await until(lambda: all_on(again, tmp_path, "legacy"), otherwise="not every worker went back")
    told = [each for each in _operations(tmp_path) if each["what"].startswith("migration")]
    assert [(each["what"], each["reason"], each["values"]["weight"]) for each in told] == [
        ("migration set", "a test", "100"),
        ("migration rollback", "back", "0"),
    ]
    assert all(each["who"] and each["proof"] == "unix socket" for each in told)


async def test_a_weight_is_on_the_page_and_in_the_metrics(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With both sides' tokens, at weight 0 too; the outcomes are counted by side."""
    configuration = migrated(tmp_path, bank)
    instance = await start(configuration)

    [one] = (await instance.status())["migrations"]
    assert (one["weight"], one["legacy_token_at_hand"], one["modern_token_at_hand"]) == (0, True, True)
    assert (await _metric(instance, "payproxy_migration_weight_ratio")) == ['{migration="payments"} 0.0']
    await set_weight(tmp_path, configuration, 100)
    assert (await _metric(instance, "payproxy_migration_weight_ratio")) == ['{migration="payments"} 1.0']
    assert "[+]migrations ok" in (await get(instance.admin, "/readyz?verbose")).body.decode()


async def test_a_payment_cut_off_with_its_worker_is_pinned(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Its retry goes where the first try went, also after a rollback and after a restart; others go back."""
    configuration = migrated(tmp_path, bank)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 100)
    await _cut_off(instance, bank)

    await until(lambda: _pins(tmp_path), otherwise="there was no pin")
    await migration(tmp_path, configuration, "rollback", "payments", "--reason", "back")
    await until(instance.is_ready, otherwise="no worker came back")

    assert await side_of(instance, tmp_path, payment("other")) == "legacy"
    assert await side_of(instance, tmp_path, payment("cut")) == "modern"
    assert bank.world.accepted["cut"] == 1
    assert await instance.stop() == 0
    again = await start(configuration)
    assert await side_of(again, tmp_path, payment("cut")) == "modern"


async def test_a_machine_that_stops_leaves_pins(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Keeper and worker are killed with a payment in flight: the first request after the restart finds its pin."""
    configuration = migrated(tmp_path, bank)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 100)
    bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=5.0, times=1)
    cut = asyncio.create_task(ask(instance.address, payment("cut")))
    await until(lambda: bank.world.accepted["cut"], otherwise="the bank did not get it")
    await instance.kill_all()
    await asyncio.gather(cut, return_exceptions=True)
    state = json.loads((tmp_path / "data" / "migrations.json").read_text())
    state["migrations"]["payments"] |= {"weight": 0, "version": 2}
    (tmp_path / "data" / "migrations.json").write_text(json.dumps(state))

    again = await start(configuration)

    assert await side_of(again, tmp_path, payment("cut")) == "modern"
    assert await side_of(again, tmp_path, payment("other")) == "legacy"


@pytest.mark.parametrize("file", ["migrations.json", "retry-pins.jsonl"])
async def test_a_state_that_cannot_be_read(tmp_path: Path, bank: Bank, start: Start, file: str) -> None:
    """It is said by name, reading goes on, payments with a key are refused unsent, and mended by moving it away."""
    configuration = migrated(tmp_path, bank)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 100, "--force")
    assert await instance.stop() == 0
    path = tmp_path / "data" / file
    path.write_text("nonsense\n")

    again = await start(configuration)

    verbose = (await get(again.admin, "/readyz?verbose")).body.decode()
    assert f"[!]migrations degraded: {path}" in verbose
    refused = await ask(again.address, payment("key"))
    assert (refused.status, refused.json["code"], refused.json["sent_upstream"]) == (503, "side_unknown", "no")
    assert (await get(again.address, "/payment/helloworld")).status == 200
    assert "key" not in bank.world.accepted
    path.unlink()

    async def served() -> Answer | None:
        answer = await ask(again.address, payment("key"))
        return answer if answer.status == 201 else None

    await until(served, otherwise="it was not served again")
    assert bank.world.accepted["key"] == 1


async def test_a_table_on_the_ramp_stays(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A reload without it is refused until it is at an end or finished; the edits that finish it are named."""
    configuration = migrated(tmp_path, bank)
    whole = configuration.read_text()
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 40, "--force")
    configuration.write_text(whole.partition("\n[migrations.")[0])

    os.kill(instance.pid, signal.SIGHUP)
    await until(
        lambda: "payproxy migration finish payments" in instance.stderr.read_text(), otherwise="it was not refused"
    )

    assert [one["weight"] for one in (await instance.status())["migrations"]] == [40]
    configuration.write_text(whole)
    code, said = await migration(tmp_path, configuration, "finish", "payments", "--reason", "over")
    assert code == 1
    assert "finished only at 0 or 100" in said
    await set_weight(tmp_path, configuration, 100)
    code, state = await migration(tmp_path, configuration, "finish", "payments", "--reason", "over")
    assert code == 0
    number = whole[: whole.index('credential = "old"', whole.index('name = "payments"'))].count("\n") + 1
    assert f"{configuration}:{number}" in [edit["place"] for edit in state["edits"]]
    assert {edit["text"] for edit in state["edits"]} == {
        'credential = "new"',
        "",
    }
    edited = whole.partition("\n[migrations.")[0].replace('credential = "old"', 'credential = "new"')
    configuration.write_text(edited)
    os.kill(instance.pid, signal.SIGHUP)
    await until(lambda: "is in force" in instance.stderr.read_text(), otherwise="it was not taken")
    assert (await instance.status())["migrations"] == []


async def _cut_off(instance: Instance, bank: Bank) -> None:
    """Kill the worker while the bank works on a payment."""
    bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=5.0, times=1)
    cut = asyncio.create_task(ask(instance.address, payment("cut")))
    await until(lambda: bank.world.accepted["cut"], otherwise="the bank did not get it")
    for pid in await instance.serving():
        kill(pid)
    [outcome] = await asyncio.gather(cut, return_exceptions=True)
    assert isinstance(outcome, OSError | EOFError)


def _pins(directory: Path) -> list[str]:
    path = directory / "data" / "retry-pins.jsonl"
    return path.read_text().splitlines()[1:] if path.exists() else []


def _operations(directory: Path) -> list[Record]:
    return [each for each in lines(directory / "requests.jsonl") if each["kind"] == "operation"]


async def _metric(instance: Instance, name: str) -> list[str]:
    lines = (await instance.metrics()).body.decode().splitlines()
    return [line.removeprefix(name) for line in lines if line.startswith(name)]
