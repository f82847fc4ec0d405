import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.credentials.csr import EXAMPLE_SUBJECT
from tests.cli.serving import command, site
from tests.cli.support import run


def start(folder: Path, *, client_id: str) -> None:
    """Leave in *folder* what `keys new` and `init` write."""
    folder.mkdir()
    assert run("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT, cwd=folder).returncode == 0
    assert run("init", cwd=folder, env={"JPM_CLIENT_ID": client_id}).returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good configuration."""
    start(tmp_path / "good", client_id="client-1")
    return tmp_path / "good"


def test_what_init_writes_is_good(folder: Path) -> None:
    """After `keys new` and `init` there is nothing to find, and the end is 0."""
    done = run("check", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "no findings\n"


@pytest.mark.parametrize("variables", [{"JPM_CLIENT_SECRET": "s"}, {"JPM_RESOURCE_ID": "JPMC:URI:RS-1"}])
def test_other_flavors_of_init_are_good(tmp_path: Path, variables: dict[str, str]) -> None:
    """The basic and adfs starters hold no fault either once the variables are set."""
    assert run("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path).returncode == 0
    assert run("init", cwd=tmp_path, env={"JPM_CLIENT_ID": "c", **variables}).returncode == 0
    done = run("check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "no findings\n")


def test_all_faults_at_once(folder: Path) -> None:
    """Findings name file, line, key and fix on stdout, end with 1, and show no value of a secret."""
    path = folder / "payproxy.toml"
    path.write_text(path.read_text().replace("listen =", "listne =").replace('"login"', '"logn"'))
    (folder / "oauth.key").chmod(0o644)

    done = run("check", cwd=folder, env={"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "canary-secret"})

    assert done.returncode == 1
    for fault in ["listne", "logn", "chmod 600", "payproxy.toml:"]:
        assert fault in done.stdout
    assert "would not start" in done.stderr
    assert "canary-secret" not in done.stdout + done.stderr
    found = json.loads(run("check", "--json", cwd=folder).stdout)
    assert {"severity", "file", "line", "key", "what", "fix"} == set(found[0])


def test_environments_are_compared(tmp_path: Path) -> None:
    """Two files of different environments that share key, certificate or client id are at fault."""
    start(tmp_path / "a", client_id="same")
    path = tmp_path / "a" / "payproxy.toml"
    other = tmp_path / "a" / "production.toml"
    other.write_text(
        path.read_text()
        .replace('"client-testing"', '"production"')
        .replace("api-ms-test", "api-ms")
        .replace("[server]", "[server]\nallow_anonymous = true")
    )
    assert run("check", other, cwd=tmp_path).returncode == 0
    done = run("check", path, other, cwd=tmp_path)
    assert "client id" in done.stdout
    assert "certificate" in done.stdout


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_what_cannot_be_read_ends_with_78(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A missing file or a folder is a finding and ends with 78, also beside a good file."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(payproxy, ["check", str(folder / "payproxy.toml"), name])
    assert result.exit_code == 78
    assert "can't be read" in result.stdout


def test_no_configuration_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any file the end is 78, with a word on `init`; file and --config together are a usage error."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(payproxy, ["check"])
    assert result.exit_code == 78
    assert "payproxy init" in result.stdout
    assert CliRunner().invoke(payproxy, ["check", "a", "--config", "b"]).exit_code == 2


async def test_online_findings_join_the_list(tmp_path: Path) -> None:
    """One list of both kinds, each finding with the same six keys; stderr tells what went well; the end is 1."""
    async with site(tmp_path) as place:
        place.write(credential='key_id_format = "x5t"', server='hosts = ["a"]\nclient_ca_file = "missing"')
        offline = await command("check", "--config", place.config, "--json")
        place.write(credential='key_id_format = "x5t"')
        online = await command("check", "--config", place.config, "--online", "--json")
        human = await command("check", place.config, "--online")

    assert "client_ca_file" in offline.stdout
    [finding] = json.loads(online.stdout)
    assert set(finding) == {"severity", "file", "line", "key", "what", "fix"}
    assert finding["key"] == "credentials.login.key_id_format"
    assert (online.exit_code, human.exit_code) == (1, 1)
    assert (human.stdout.count(" error:"), human.stdout.count("^")) == (1, len("key_id_format"))
    assert "bank: 127.0.0.1:" in human.stderr
    assert "would not start" not in human.stderr


async def test_call_implies_online(tmp_path: Path) -> None:
    """A good configuration that also calls has no findings, ends with 0 and shows no token."""
    async with site(tmp_path) as place:
        done = await command("check", place.config, "--call")

    assert (done.exit_code, done.stdout) == (0, "no findings\n")
    assert "GET /payment/helloworld with login through route payments: 200" in done.stderr
    assert "eyJ" not in done.stderr


async def test_a_broken_configuration_is_not_asked_about(tmp_path: Path) -> None:
    """Nothing is sent for what `serve` would refuse."""
    async with site(tmp_path) as place:
        place.write(credential="nonsense = 1")
        done = await command("check", place.config, "--online")
        assert place.bank.world.log.total == 0

    assert done.exit_code == 1
    assert "would not start" in done.stderr
