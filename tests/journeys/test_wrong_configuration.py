import os
import re
import socket
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.process import Process
from tests.journeys.support import configured

CANARY = "c4n4ry-"

_JWT = """\
flavor = "jwt"
client_id = "client"
token_url = "{bank}/oauth2/token"
private_key_file = "{key}"
certificate_file = "{certificate}"
"""


async def _serve(directory: Path, configuration: Path, **env: str) -> tuple[int, str]:
    process = await Process.run(directory, "-m", "proxy", "serve", "--config", str(configuration), env=env)
    return await process.exit_code(), process.output


async def test_all_faults_are_told_at_once_and_no_secret(tmp_path: Path, bank: Bank) -> None:
    """Exit code 78; every fault has file and line or its variable, typos name the nearest; no value is repeated."""
    configuration = configured(tmp_path, bank.url, secret=CANARY + "file")
    os.chmod(tmp_path / "mock.secret", 0o644)  # noqa: PTH101 - as an administrator does
    text = configuration.read_text()
    text = text.replace('[server]\nlisten = "127.0.0.1:0"', '[server]\nlisten = "0.0.0.0:0"')
    # A fault of its own in [server] would leave what rules find of it to the next run.
    text = text.replace("[request_log]\n", f'[request_log]\nstdoud = "{CANARY}key"\n')
    text = text.replace('client_id = "mock-client"', 'client_id = "..."')
    text = text.replace(
        'upstream = "simulator"\ncredential = "mock"\n\n\n', 'upstream = "simulatr"\ncredential = "mok"\n\n\n'
    )
    text = text.replace(f'url = "{bank.url}"', 'url = "https://api.example.org"')
    configuration.write_text(text)

    code, output = await _serve(tmp_path, configuration, PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRT=CANARY + "variable")

    assert code == 78, output
    assert CANARY not in output
    for key, told in (
        ("server.allow_anonymous", "callers"),
        ("request_log.stdoud", '"stdout"'),
        ("upstreams.simulator.url", "foreign_host"),
        ("credentials.mock.client_id", "placeholder"),
        ("credentials.mock.client_secret_file", "chmod 600"),
        ("routes.hello.upstream", '"simulatr"; did you mean "simulator"'),
        ("routes.hello.credential", '"mok"; did you mean "mock"'),
        ("PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRT", "did you mean PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET"),
    ):
        assert any(key in line and told in line for line in output.splitlines()), (key, output)
    assert "8 errors: not started" in output
    number = text.splitlines().index(f'stdoud = "{CANARY}key"') + 1
    assert f"payproxy.toml:{number}" in output
    assert not (tmp_path / "data").exists()


async def test_broken_toml_is_told_by_line_and_not_quoted(tmp_path: Path, bank: Bank) -> None:
    """A syntax error on a line with a secret: file and line are told, the line is not."""
    configuration = configured(tmp_path, bank.url)
    configuration.write_text(configuration.read_text() + f'\n[credentials.other]\nclient_secret = "{CANARY}" oops\n')

    code, output = await _serve(tmp_path, configuration)

    assert code == 78, output
    assert f"payproxy.toml:{len(configuration.read_text().splitlines())}" in output
    assert CANARY not in output


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("another's", "belongs to another key"),
        ("damaged", "oauth.key"),
        ("missing", "oauth.key"),
        ("readable by others", "chmod 600"),
    ],
)
async def test_a_key_file_that_cannot_be_used_is_a_finding(tmp_path: Path, bank: Bank, fault: str, told: str) -> None:
    """A wrong private key is found before anything starts, and nothing of it is shown."""
    key, certificate = make_pair(tmp_path)
    if fault == "another's":
        key, _ = make_pair(tmp_path, name="other")
    elif fault == "damaged":
        lines = key.read_text().splitlines()
        key.write_text("\n".join([*lines[:5], CANARY, *lines[6:]]))
    elif fault == "missing":
        key.unlink()
    else:
        key.chmod(0o644)
    body = key.read_text().splitlines()[1:-1] if key.exists() else []
    credential = _JWT.format(bank=bank.url, key=key, certificate=certificate)

    code, output = await _serve(tmp_path, configured(tmp_path, bank.url, credential=credential))

    assert code == 78, output
    [line] = [line for line in output.splitlines() if ": error: " in line]
    assert line.startswith(f"{tmp_path / 'payproxy.toml'}:")
    assert "credentials.mock." in line
    assert told in line
    assert CANARY not in output
    assert not any(line in output for line in body)
    assert bank.world.seen() == []


@pytest.mark.parametrize("section", ["server", "admin"])
async def test_a_port_in_use_is_told_in_a_clear_line(tmp_path: Path, bank: Bank, section: str) -> None:
    """Exit code 1, and one line that names the setting and the address; no traceback, no worker left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        configuration = configured(tmp_path, bank.url)
        text = configuration.read_text()
        configuration.write_text(
            text.replace(f'[{section}]\nlisten = "127.0.0.1:0"', f'[{section}]\nlisten = "{address}"')
        )

        code, output = await _serve(tmp_path, configuration)

    assert code == 1, output
    [line] = [line for line in output.splitlines() if address in line]
    assert section in line
    assert "in use" in line
    assert "Traceback" not in output
    assert "Unclosed" not in output


async def test_a_second_instance_on_one_data_directory_is_refused(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Exit code 1 and the directory's name; the first one serves on."""
    configuration = configured(tmp_path, bank.url)
    instance = await start(configuration)

    code, output = await _serve(tmp_path, configuration)

    assert code == 1, output
    assert f"another payproxy uses {tmp_path / 'data'}" in output
    assert "Traceback" not in output
    assert await instance.is_ready()
    assert (await get(instance.address, "/payment/helloworld")).status == 200


async def test_one_instance_after_the_other_may_use_a_data_directory(tmp_path: Path, bank: Bank, start: Start) -> None:
    """What SIGKILL left behind, socket and lock, keeps no later instance from starting."""
    configuration = configured(tmp_path, bank.url)
    first = await start(configuration)
    await first.kill_all()
    assert (tmp_path / "data" / "admin.sock").exists()

    second = await start(configuration)

    assert (await get(second.address, "/payment/helloworld")).status == 200


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_a_fifo_and_a_directory_that_others_may_write_in_are_told(
    tmp_path: Path, bank: Bank, command: str
) -> None:
    """Neither command waits for a writer of the FIFO, and no planted key is used."""
    configuration = configured(tmp_path, bank.url)
    (tmp_path / "mock.secret").unlink()
    os.mkfifo(tmp_path / "mock.secret", 0o600)
    os.mkfifo(tmp_path / "facade.fifo", 0o600)
    data = tmp_path / "shared"
    data.mkdir()
    data.chmod(0o777)
    (data / "masking.key").write_bytes(b"k" * 32)
    more = f'\n[facade]\npaths = ["/oauth2/token"]\nsigning_key_files = ["{tmp_path / "facade.fifo"}"]\n'
    configuration.write_text(
        f'data_directory = "{data}"\n' + re.sub("data_directory.*", "", configuration.read_text()) + more
    )

    process = await Process.run(tmp_path, "-m", "proxy", command, "--config", str(configuration))

    assert await process.exit_code() == (78 if command == "serve" else 1), process.output
    for key, told in (
        ("credentials.mock.client_secret_file", "not a regular file"),
        ("facade.signing_key_files", "not a regular file"),
        ("data_directory", "others may write in"),
    ):
        assert any(key in line and told in line for line in process.output.splitlines()), (key, process.output)
