"""An operator with a typo in the file, in an incident: every command to the running instance works as before."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.cli.serving import command
from tests.journeys.caller import Request, ask
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.migrated import migrated
from tests.journeys.waiting import until
from tests.support.ports import lasting_port


def _drop(text: str) -> str:
    return text.replace('environment = "mock"', 'environment = "mock')


def _misspell(text: str) -> str:
    return text.replace("[request_log]", '[request_log]\nfiel = "x"').replace("data_directory", "data_dirctory")


def _replace(_: str) -> str:
    return "\0\xff not a configuration at all [[["


async def said(*arguments: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of `payproxy`."""
    found = await command(*arguments)
    return found.exit_code, found.stdout, found.stderr


@pytest.mark.parametrize(
    ("damage", "socket"),
    [
        pytest.param(_drop, False, id="no TOML"),
        pytest.param(_misspell, False, id="unknown keys", marks=pytest.mark.thorough),
        pytest.param(_replace, True, id="garbage", marks=pytest.mark.thorough),
        pytest.param(None, True, id="file gone"),
    ],
)
async def test_a_typo_takes_no_control_away(
    tmp_path: Path, bank: Bank, start: Start, damage: Callable[[str], str] | None, *, socket: bool
) -> None:
    """They say that the file is broken, and do what they do; where nothing leads to the instance, --socket does."""
    port = lasting_port()
    configuration = migrated(tmp_path, bank)
    configuration.write_text(configuration.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
    instance = await start(configuration)
    answer = await ask(instance.address, Request())
    await until(lambda: records(tmp_path), otherwise="the log has no request")
    if damage is None:
        configuration.unlink()
    else:
        configuration.write_text(damage(configuration.read_text()))
    where = ["--config", str(configuration), *(["--socket", str(tmp_path / "data" / "admin.sock")] if socket else [])]

    async def done(*arguments: str) -> str:
        code, stdout, stderr = await said(*arguments, *where)
        assert code == 0, (arguments, stderr)
        assert socket or arguments[0] == "health" or re.search(r"error.*admin\.sock has in force", stderr, re.DOTALL)
        return stdout

    async def logged() -> bool:
        return answer.request_id in await done("logs", "search", "--json")

    await done("migration", "set", "payments", "100", "--reason", "an incident")
    await done("migration", "rollback", "payments", "--reason", "an incident")
    assert json.loads(await done("migration", "status", "--json"))["migrations"][0]["weight"] == 0
    await until(logged, otherwise="the database has no request")
    assert answer.request_id in await done("logs", "show", answer.request_id)
    assert answer.request_id in await done("logs", "tail", "--json")
    assert "the chain holds" in await done("logs", "verify")
    assert "payments" in await done("migration", "plan", "payments")
    assert "payments" in await done("migration", "report", "payments")
    assert await done("request", "GET", "/payment/helloworld")
    await done("health", "--ready")


async def test_without_an_instance_the_log_can_be_read(tmp_path: Path, bank: Bank, start: Start) -> None:
    """What can be read of the file leads to its data; nothing is deleted by it, and nothing is made."""
    configuration = migrated(tmp_path, bank)
    instance = await start(configuration)
    answer = await ask(instance.address, Request())
    assert await instance.stop() == 0
    configuration.write_text(_drop(configuration.read_text()))
    where = ("--config", str(configuration))

    code, stdout, stderr = await said("logs", "search", "--json", *where)
    assert (code, answer.request_id in stdout) == (0, True), stderr
    assert f"the data in {tmp_path / 'data'}" in stderr
    code, _, stderr = await said("migration", "status", *where)
    assert (code, "no instance answers" in stderr) == (69, True)
    code, _, stderr = await said("logs", "prune", "--before", "1d", "--yes", *where)
    assert (code, "nothing is deleted" in stderr) == (78, True)
    code, _, stderr = await said("logs", "search", "--config", str(tmp_path / "nowhere" / "x.toml"))
    assert (code, "there is no" in stderr or "can't be read" in stderr) == (78, True)
