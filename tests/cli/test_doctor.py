"""`doctor` as the process that it is: on this machine, with a right, a broken and no configuration."""

import asyncio
import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.clients import JWT_CLIENT_ID
from tests.cli.serving import Site, serving, site
from tests.cli.support import PAYPROXY, environment, run_process
from tests.support.other_user import as_user
from tests.support.ports import lasting_port

OFFLINE = ("doctor", "--offline", "--json")


def by_check(text: str) -> dict[str, dict[str, str]]:
    """Return the lines by their subject."""
    return {line["check"]: line for line in json.loads(text)}


async def examined(place: Site, *arguments: str, **environ: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Return exit code, lines and everything that was printed, while the bank can answer."""
    done = await asyncio.to_thread(
        run_process,
        "doctor",
        "--json",
        *arguments,
        cwd=place.folder,
        env={"PAYPROXY_CONFIG": str(place.config), **environ},
    )
    return done.returncode, by_check(done.stdout), done.stdout + done.stderr


def test_doctor_works_without_a_configuration(tmp_path: Path) -> None:
    """It says what it can of the machine, names the command that makes a configuration, and writes nothing."""
    done = run_process(*OFFLINE, cwd=tmp_path)

    lines = by_check(done.stdout)
    assert done.returncode == 0, done.stdout
    assert lines["disk latency"]["what"].startswith("fdatasync takes")
    assert {"versions", "event loop", "open files", "data directory", "server.listen", "CPU"} <= set(lines)
    assert "payproxy onboard" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "code"),
    [("environment = [\n", 1), ('environment = "mock"\nwrong = "canary"\n', 1), (None, 78)],
)
def test_doctor_works_with_a_broken_configuration(tmp_path: Path, text: str | None, code: int) -> None:
    """The finding of `check` is one of its lines; a value that may be a secret is not shown."""
    path = tmp_path / "payproxy.toml"
    if text is not None:
        path.write_text(text)

    done = run_process(*OFFLINE, "--config", path, cwd=tmp_path)

    assert done.returncode == code, done.stderr
    found = [line for line in json.loads(done.stdout) if line["check"] == "configuration"]
    assert any(line["status"] == "error" for line in found)
    assert all(line["fix"] for line in found)
    assert "disk space" in by_check(done.stdout)
    assert "canary" not in done.stdout + done.stderr


def test_each_finding_has_what_mends_it(tmp_path: Path) -> None:
    """For people the fix stands below the finding; a line that is right has none."""
    done = run_process("doctor", "--offline", cwd=tmp_path, env={"HTTPS_PROXY": "http://user:canary@proxy:1"})
    lines = done.stdout.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("warning", "error")):
            assert lines[number + 1].strip().startswith("-> "), line
    assert any("HTTPS_PROXY is set, which payproxy does not read" in line for line in lines)
    assert "canary" not in done.stdout + done.stderr


async def test_a_right_machine_reaches_the_bank_and_has_its_time(tmp_path: Path) -> None:
    """DNS, connection and clock are told, with one HEAD to the token endpoint: no token is minted."""
    async with site(tmp_path) as place:
        code, lines, _ = await examined(place, HTTPS_PROXY="http://proxy.invalid:1")

        assert code == 0, lines
        assert lines["network (login)"]["status"] == "ok"
        assert lines["clock (127.0.0.1)"]["status"] == "ok"
        assert "every server is reached without" in lines["egress proxy"]["what"]
        assert place.bank.world.mint_count() == 0
        assert [one.method for one in place.bank.world.seen("/oauth2")] == ["HEAD"]


@pytest.mark.parametrize(("offset", "status"), [(60.0, "warning"), (-3600.0, "error")])
async def test_a_clock_that_is_off(tmp_path: Path, offset: float, status: str) -> None:
    """What can be corrected for is a warning, more is an error; both say how to set the clock."""
    async with site(tmp_path) as place:
        place.bank.world.clock_offset = offset
        code, lines, _ = await examined(place)

    line = lines["clock (127.0.0.1)"]
    assert (code, line["status"]) == (int(status == "error"), status)
    assert "timedatectl set-ntp true" in line["fix"]


async def test_a_server_that_is_not_reached_without_a_proxy(tmp_path: Path) -> None:
    """With HTTPS_PROXY set the setting that is missing is named, never the proxy's password."""
    async with site(tmp_path) as place:
        place.write(token_url=f"http://127.0.0.1:{lasting_port()}/oauth2/token")
        code, lines, printed = await examined(place, HTTPS_PROXY="http://user:canary@proxy:1")

    assert code == 1
    assert "credentials.login.egress_proxy" in lines["network (login)"]["what"]
    assert lines["egress proxy"]["status"] == "error"
    assert "set egress_proxy" in lines["egress proxy"]["fix"]
    assert "canary" not in printed


async def test_a_port_that_is_taken_or_ours(tmp_path: Path) -> None:
    """Another program's is an error with the command that names it; the running instance's is right."""
    async with site(tmp_path) as place:
        with socket.create_server(("127.0.0.1", place.port)):
            code, lines, _ = await examined(place)
        assert (code, lines["server.listen"]["status"]) == (1, "error")
        assert f"sport = :{place.port}" in lines["server.listen"]["fix"]
        async with serving(place):
            await place.ready()
            code, lines, _ = await examined(place)
        assert (code, "running instance" in lines["server.listen"]["what"]) == (0, True), lines


async def test_no_secret_is_printed(tmp_path: Path) -> None:
    """Neither the key, nor a secret in the file, nor one in the environment."""
    async with site(tmp_path) as place:
        place.write(credential='client_secret = "canary"')
        _, lines, printed = await examined(place, PAYPROXY_STATE__URL="redis://:canary@127.0.0.1:1")

    assert lines["configuration"]["status"] == "error"
    assert JWT_CLIENT_ID not in printed
    assert "canary" not in printed
    assert "PRIVATE" not in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_data_directory_in_a_closed_folder(command: str) -> None:
    """Where this user may not even look, that is a finding like others, not the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0o700)
        (folder / "payproxy.toml").write_text('data_directory = "closed/data/more"\n')
        done: subprocess.CompletedProcess[str] = subprocess.run(
            as_user(PAYPROXY, command, "--json"), cwd=folder, env=environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert "internal error" not in done.stderr, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert any("closed/data/more" in one["what"] and "install -d -o 54321" in one["fix"] for one in found), found
