import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.config import toml_lines
from proxy.cli.main import payproxy
from tests.cli.support import run

SECRET = "canary-secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration whose secret comes from the environment."""
    assert run("init", "--flavor", "basic", cwd=tmp_path, env={"JPM_CLIENT_ID": "client-1"}).returncode == 0
    path = tmp_path / "payproxy.toml"
    path.write_text(path.read_text().replace("client_secret_file", "# client_secret_file"))
    return tmp_path


ENVIRONMENT = {"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": SECRET, "PAYPROXY_SERVER__WORKERS": "3"}


def test_show_prints_effective_values_as_toml(folder: Path) -> None:
    """What is shown is TOML with defaults, presets and the environment applied; the secret is masked."""
    done = run("config", "show", cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    values = tomllib.loads(done.stdout)
    assert values["server"]["workers"] == 3
    assert values["server"]["max_requests"] == 1024
    assert values["credentials"]["login"]["auth_method"] == "client_secret_basic"
    assert values["credentials"]["login"]["client_secret"] == "***"
    assert values["routes"][0]["name"] == "payments"
    assert SECRET not in done.stdout + done.stderr


def test_show_names_sources(folder: Path) -> None:
    """Behind every value stands where it came from: file and line, variable, preset or default."""
    done = run("config", "show", "--sources", cwd=folder, env=ENVIRONMENT)
    lines = {line.split(" = ")[0]: line for line in done.stdout.splitlines() if " = " in line}
    assert "PAYPROXY_SERVER__WORKERS" in lines["workers"]
    assert "PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET" in lines["client_secret"]
    assert "payproxy.toml:" in lines["client_id"]
    assert "preset" in lines["auth_method"]
    assert lines["max_requests"].endswith("# default")
    assert all("  # " in line for line in lines.values())
    assert SECRET not in done.stdout


def test_show_as_json(folder: Path) -> None:
    """JSON carries file, settings and, when asked for, sources by dotted key."""
    plain = json.loads(run("config", "show", "--json", cwd=folder, env=ENVIRONMENT).stdout)
    assert set(plain) == {"file", "settings"}
    assert plain["file"] == str(folder / "payproxy.toml")
    assert plain["settings"]["credentials"]["login"]["client_secret"] == "***"
    sourced = json.loads(run("config", "show", "--json", "--sources", cwd=folder, env=ENVIRONMENT).stdout)
    assert sourced["sources"]["server.workers"] == "environment variable PAYPROXY_SERVER__WORKERS"
    assert sourced["settings"] == plain["settings"]


def test_show_of_a_broken_configuration(folder: Path) -> None:
    """Every fault stands on stderr, nothing on stdout, and the end is 78."""
    path = folder / "payproxy.toml"
    path.write_text(path.read_text().replace("listen", "listne").replace('"basic"', '"canary-value"'))
    done = run("config", "show", cwd=folder, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (78, "")
    assert "listne" in done.stderr
    assert "flavor" in done.stderr
    assert "canary-value" not in done.stderr


def test_schema_is_the_committed_file() -> None:
    """The schema is printed exactly as config/payproxy.schema.json has it, so that a redirect renews the file."""
    result = CliRunner().invoke(payproxy, ["config", "schema"])
    assert result.exit_code == 0
    assert result.stdout == (Path(__file__).parents[2] / "config" / "payproxy.schema.json").read_text()


def test_toml_of_every_kind_of_value() -> None:
    """Lists of tables within rules, user-named tables, odd names, empty and missing values come out as TOML."""
    values = {
        "name": 'a "b" \\ c',
        "nothing": None,
        "empty": {},
        "users": {"x y": "***"},
        "inner": {"one": {"flag": True, "numbers": [1, 2.5]}},
        "routes": [{"remint_on": [{"status": 403, "body": "x"}]}, {"methods": []}],
    }
    text = "\n".join(toml_lines(values, {"users.x y": "somewhere\x1b", "routes.1.methods": "here"}))
    del values["nothing"]
    assert tomllib.loads(text) == values
    assert "\x1b" not in text
    assert "[inner]" not in text
    assert "# here" in text
