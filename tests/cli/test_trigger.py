import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cli import trigger
from proxy.cli.scenario_file import read_scenario
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.scenario import NAMED
from proxy.simulator.server import Bank, simulator
from tests.cli.serving import Site, command, serving, site
from tests.cli.support import PAYPROXY, environment, run
from tests.support.ports import lasting_port

BAD_DAY = Path(__file__).parents[2] / "docs" / "bad-day.toml"
SOON = 60.0


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run a simulator."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running:
        yield running


@pytest.mark.parametrize("name", [name for name, faults in NAMED.items() if faults])
async def test_a_fault_is_set_at_the_running_simulator(bank: Bank, name: str) -> None:
    """It says what it concerns and how it ends; off takes it away."""
    result = await command("trigger", name, "--at", bank.url, "--json")
    again = await command("trigger", name, "--at", bank.url, "--path", "/tsapi", "--times", "2")

    first, second = bank.world.faults.as_list()
    assert json.loads(result.stdout)[0]["kind"] == first["kind"]
    assert (second["path"], second["left"]) == ("/tsapi", 2)
    assert f"{name} on /tsapi..., for the next 2 requests" in again.stdout
    assert f"Set before and still there: {first['kind']} on {first['path']}...; `payproxy trigger off`" in again.stdout

    await command("trigger", "off", "--at", bank.url)

    assert not bank.world.faults


async def test_tokens_are_revoked(bank: Bank) -> None:
    """Once, all of them."""
    result = await command("trigger", "revoked", "--at", bank.url)

    assert result.stdout == f"{bank.url} has revoked 0 tokens\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("slow", "--at", "http://example.com"),
        ("slow", "--at", "https://127.0.0.1:1"),
        ("slow", "--times", "0"),
        ("reset", "--seconds", "3"),
        ("revoked", "--path", "/payment"),
        ("off", "--times", "1"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Also another host: it can't be the simulator."""
    assert run("trigger", *arguments, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("seconds", ["nan", "inf"])
async def test_seconds_that_are_no_number(bank: Bank, seconds: str) -> None:
    """Click takes both for a number; JSON has neither."""
    result = await command("trigger", "slow", "--at", bank.url, "--seconds", seconds, "--json")

    assert result.exit_code == 2
    assert "seconds: it is not a number from 0 to 86400" in result.stderr
    assert not result.stdout
    assert not bank.world.faults


def test_without_a_simulator_it_ends_with_69(tmp_path: Path) -> None:
    """And says how to run one."""
    done = run("trigger", "slow", "--at", f"http://127.0.0.1:{lasting_port()}", cwd=tmp_path)

    assert done.returncode == 69
    assert "payproxy simulate" in done.stderr


async def test_only_the_simulator_of_the_configuration_is_asked(
    tmp_path: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on the default port may be somebody else's."""
    monkeypatch.setattr(trigger, "_DEFAULT", bank.url)
    async with site(tmp_path) as place:
        pass

    result = await command("trigger", "night", "--config", place.config)

    assert result.exit_code == 69
    assert not bank.world.faults


async def test_without_a_configuration_the_default_port_is_asked(
    tmp_path: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of `simulate`."""
    monkeypatch.setattr(trigger, "_DEFAULT", bank.url)

    result = await command("trigger", "night", "--config", tmp_path / "missing.toml")

    assert result.exit_code == 0
    assert bank.world.faults


def request(place: Site) -> int:
    """Send a request through the proxy and return the status of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=SOON)
    with contextlib.closing(connection):
        connection.request("POST", "/payment/v2/payments", b'{"amount": 1}', {"Idempotency-Key": "key-1"})
        return connection.getresponse().status


async def test_the_status_names_the_fault_that_runs(tmp_path: Path) -> None:
    """The simulator is found by the configuration; who called, what broke and what to do are in the status."""
    async with site(tmp_path) as place, serving(place):
        await place.ready()
        result = await command("trigger", "reset", "--config", place.config, "--times", "1")
        assert result.exit_code == 0, result.output
        statuses = [await asyncio.to_thread(request, place) for _ in range(2)]
        shown = await place.until(lambda status: sum(one["requests"] for one in status["callers"]) == 2)
        told = await command("why", "key-1", "--config", place.config)

    assert statuses == [502, 200]
    (caller,) = shown["callers"]
    assert (caller["failed"], caller["sent_unknown"]) == (1, 1)
    (error,) = shown["errors"]
    assert (error["code"], error["route"], error["sent_upstream"]) == ("upstream_reset", "payments", "unknown")
    assert error["next_step"].startswith("Ask the bank")
    assert "2 requests have this value: the bank has 1, it is not known of 1" in told.stdout


def test_the_example_is_a_scenario() -> None:
    """Its steps are in order, and each is over before the end."""
    steps = read_scenario(BAD_DAY)

    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert {"revoked", "slow", "reset", "night", "timeout"} <= {step.name for step in steps}


def test_a_wrong_scenario_says_line_and_fix(tmp_path: Path) -> None:
    """All of its errors at once, before anything listens."""
    (tmp_path / "day.toml").write_text(
        'title = "x"\n[[steps]]\nat = 1\nfault = "slwo"\n\n[[steps]]\nat = "soon"\nfault = "slow"\n[[steps]]\nat = 3\n'
    )

    done = run("simulate", "--scenario", "day.toml", cwd=tmp_path)

    assert done.returncode == 78
    lines = [line for line in done.stderr.splitlines() if line.startswith("day.toml:")]
    assert [line.split(":")[1] for line in lines] == ["1", "4", "7", "9"]
    assert "there is no such fault; known are" in done.stderr
    assert "the scenario has 4 errors" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 3\n", "there are no steps"),
        ("", "[[steps]]"),
        ("[[steps]\n", "day.toml:1:"),
        ("a = '\0'", "day.toml:1:"),
    ],
)
def test_a_file_that_is_no_scenario(tmp_path: Path, text: str, words: str) -> None:
    """It says how to begin."""
    (tmp_path / "day.toml").write_text(text)

    done = run("simulate", "--scenario", "day.toml", cwd=tmp_path)

    assert done.returncode == 78
    assert words in done.stderr


async def test_the_simulator_plays_a_scenario(tmp_path: Path) -> None:
    """Each step is told on stderr when it happens."""
    (tmp_path / "day.toml").write_text('[[steps]]\nat = 0\nfault = "reset"\n[[steps]]\nat = 0.1\nfault = "off"\n')
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "simulate", "--listen", f"127.0.0.1:{lasting_port()}", "--scenario", tmp_path / "day.toml",
        stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SOON):
            while b"all faults are taken away" not in (line := await process.stderr.readline()):
                assert line
    finally:
        process.terminate()
        await process.wait()
