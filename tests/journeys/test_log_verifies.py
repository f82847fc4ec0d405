"""The log is a chain from the first start to the last stop, whatever happened in between."""

import asyncio
import contextlib
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines
from tests.journeys.logs import verified
from tests.journeys.process import Instance, Process, kill
from tests.journeys.support import configured, private
from tests.journeys.waiting import until

KEY = "0123456789abcdef0123456789abcdef"
ROUNDS = ("worker", "keeper", "both", "keeper", "both", "worker")


async def test_a_day_in_order_has_no_flaw(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Two clean runs: all kinds of records are in one chain, signed to its end, in the file and on stdout alike."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = true")
    printed = []
    for _ in range(2):
        instance = await start(configuration)
        await ask(instance.address, payment("order"))
        assert await instance.stop() == 0
        printed += instance.stdout.read_bytes().splitlines(keepends=True)
    (tmp_path / "printed.jsonl").write_bytes(b"".join(printed))

    code, value = await verified(tmp_path, "--config", str(configuration))
    _, of_stdout = await verified(tmp_path, str(tmp_path / "printed.jsonl"))

    assert code == 0
    copies = {copy["copy"]: copy for copy in [*value["copies"], *of_stdout["copies"]]}
    for name in ("file", "stream", ""):
        assert copies[name]["flaws"] == [], name
    [known] = copies["file"]["instances"].values()
    assert (known["first"], known["stopped"]) == (1, True)
    assert known["signed_up_to"] == known["last"] - 1
    assert known["public_keys"] == [value["public_key"]]
    found = list(lines(tmp_path / "requests.jsonl"))
    events = [record.get("event", record["kind"]) for record in found]
    assert events[0] == "start"
    assert events[-2:] == ["stop", "checkpoint"]
    assert {"configuration", "minted", "exchange"} <= set(events)
    assert [record["config_digest"] for record in found] == [found[0]["config_digest"]] * len(found)


@pytest.mark.timeout(600)
async def test_the_chain_holds_after_kills(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Rounds of kill -9 under load: only what a kill leaves is said, as warnings, and nothing is missing."""
    configuration = configured(tmp_path, bank.url, server="workers = 2", request_log="stdout = false")
    instance = await start(configuration)
    kept = tmp_path / "anchor.jsonl"
    load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=8, stubborn=True)
    async with load:
        for kind in ROUNDS:
            await load.goes_on(150)
            await _kill(kind, instance)
            if instance.process.returncode is not None:
                code, value = await verified(tmp_path, str(tmp_path / "requests.jsonl"))
                assert code == 0, value
                instance = await start(configuration)
                load.address = instance.address
    assert await instance.stop() == 0
    kept.write_bytes((tmp_path / "requests.jsonl").read_bytes())

    code, value = await verified(tmp_path, "--config", str(configuration), "--anchor", str(kept))

    assert code == 0, value
    for copy in value["copies"]:
        assert {flaw["fault"] for flaw in copy["flaws"]} <= {"unclean", "duplicated", "begins_late", "anchor"}
    [file] = [copy for copy in value["copies"] if copy["copy"] == "file"]
    assert "unclean" in {flaw["fault"] for flaw in file["flaws"]}
    [known] = file["instances"].values()
    assert known["records"] == known["last"] > 6 * 150


async def test_a_running_instance_is_not_called_unclean(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Its log has no end yet."""
    configuration = configured(tmp_path, bank.url)
    instance = await start(configuration)
    await until((tmp_path / "requests.jsonl").exists, otherwise="there was no log")

    code, value = await verified(tmp_path, "--config", str(configuration))

    assert code == 0
    assert {copy["copy"]: copy["flaws"] for copy in value["copies"] if copy["instances"]}.items() >= {
        "file": [],
        "stream": [],
    }.items()
    assert await instance.is_ready()


async def test_a_database_that_was_cut_emptied_or_deleted_is_an_error(tmp_path: Path, bank: Bank, start: Start) -> None:
    """After a clean stop nobody expects more, but the keeper knows what the database had; a lie covers nothing."""
    log = 'stdout = false\ndatabase = "sqlite:requests.db"'
    configuration = configured(tmp_path, bank.url, request_log=log)
    instance = await start(configuration)
    for number in range(3):
        await ask(instance.address, payment(f"order-{number}"))
    assert await instance.stop() == 0
    [database] = (tmp_path / "data").glob("requests-*.db")
    whole = database.read_bytes()

    async def after(change: str) -> tuple[int, dict[str, Any]]:
        database.write_bytes(whole)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.executescript(change)
        code, value = await verified(tmp_path, "--config", str(configuration))
        return code, value["copies"][0]

    code, untouched = await after("")
    assert (code, untouched["copy"], untouched["flaws"], untouched["outcome"]) == (0, "database", [], "holds")
    for change in (
        "DELETE FROM records",
        "DELETE FROM records WHERE rowid > (SELECT max(rowid) - 3 FROM records)",
        "DELETE FROM records WHERE rowid = 1",
    ):
        code, found = await after(change)
        assert (code, found["outcome"]) == (1, "broken"), change
        assert "missing" in {flaw["fault"] for flaw in found["flaws"] if flaw["severity"] == "error"}
    database.unlink()
    code, value = await verified(tmp_path, "--config", str(configuration))
    assert (code, value["copies"][0]["outcome"]) == (1, "broken")


async def test_a_body_is_proven(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The record of a payment has the HMAC of its body, and the key is nowhere else."""
    private(tmp_path / "body.key", KEY)
    configuration = configured(tmp_path, bank.url, request_log='stdout = false\nbody_hmac_key_file = "body.key"')
    instance = await start(configuration)
    request = payment("order")
    answer = await ask(instance.address, request)
    assert await instance.stop() == 0
    (tmp_path / "body").write_bytes(request.body)

    command = "import sys; from proxy.cli.logs_prove import prove; sys.exit(prove.main(standalone_mode=True))"
    arguments = ("-c", command, answer.request_id, str(tmp_path / "body"), "--config", str(configuration))
    process = await Process.run(tmp_path, *arguments)

    assert await process.exit_code() == 0, process.output
    assert "this is the body" in process.output
    assert KEY not in (tmp_path / "requests.jsonl").read_text() + instance.output


async def test_an_operation_is_on_record_before_it_is_done(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Who asked, over what, for what; also if the keeper is killed right after."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    answer = await ask_admin(tmp_path, b'{"credential": "mock", "reason": "it was down"}')
    await instance.kill()
    await instance.workers_gone()
    assert b'"retried"' in answer
    second = await start(configuration)
    assert await second.stop() == 0

    # What a killed keeper had delivered just before comes again, under the same id.
    told = {record["id"]: record for record in lines(tmp_path / "requests.jsonl")}
    [operation] = [record for record in told.values() if record["kind"] == "operation"]

    assert operation["what"] == "POST /api/tokens/retry"
    assert (operation["proof"], operation["reason"]) == ("unix socket", "it was down")
    assert operation["values"] == {"credential": "mock"}
    assert operation["who"]


async def test_a_refused_mint_is_on_record(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With the endpoint's word for it."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false", secret="wrong")
    instance = await start(configuration)
    await get(instance.address, "/payment/helloworld")
    assert await instance.stop() == 0

    refused = [record for record in lines(tmp_path / "requests.jsonl") if record["kind"] == "token"]

    assert refused
    assert {(record["event"], record["code"]) for record in refused} == {("refused", "token_refused")}
    assert "invalid_client" in refused[0]["error"] + refused[0]["cause"]


async def ask_admin(directory: Path, body: bytes) -> bytes:
    """POST *body* to the action that retries mints, over the admin socket."""
    reader, writer = await asyncio.open_unix_connection(str(directory / "data" / "admin.sock"))
    writer.write(
        b"POST /api/tokens/retry HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def _replaced(instance: Instance, victim: int) -> bool:
    serving = await instance.serving()
    return len(serving) == 2 and victim not in serving


async def _kill(kind: str, instance: Instance) -> None:
    if kind == "worker":
        [victim, *_] = await until(instance.serving, otherwise="no worker served")
        kill(victim)
        # The keeper may not have noticed yet, and a worker that it sees dead on the way down is no clean end.
        await until(partial(_replaced, instance, victim), otherwise="the killed worker was not replaced")
    elif kind == "keeper":
        await instance.kill()
        await instance.workers_gone()
    else:
        await instance.kill_all()
