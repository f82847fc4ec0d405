import json
import stat
import tomllib
from pathlib import Path

from tests.cli.support import run

SECRET = "canary-secret"


def test_init_writes_what_the_variables_say(tmp_path: Path) -> None:
    """JPM_* variables end up in payproxy.toml (0644), the secret only in a file of its own (0600)."""
    env = {
        "JPM_CLIENT_ID": "client-1",
        "JPM_CLIENT_SECRET": SECRET,
        "JPM_TOKEN_URL": "https://id.payments.jpmorgan.com/x",
    }

    done = run("init", cwd=tmp_path, env=env)

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "payproxy.toml").read_text()
    login = tomllib.loads(text)["credentials"]["login"]
    assert login == {
        "flavor": "basic",
        "client_id": "client-1",
        "client_secret_file": "client-secret",
        "token_url": "https://id.payments.jpmorgan.com/x",
    }
    assert (tmp_path / "client-secret").read_text() == f"{SECRET}\n"
    assert stat.S_IMODE((tmp_path / "client-secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "payproxy.toml").stat().st_mode) == 0o644
    assert SECRET not in text + done.stdout + done.stderr


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """A configuration or a secret that is there stays as it is, and nothing else is written."""
    (tmp_path / "client-secret").write_text("old")
    env = {"JPM_CLIENT_SECRET": SECRET}
    for _ in range(2):
        done = run("init", cwd=tmp_path, env=env)
        assert done.returncode == 1
        assert "exists already" in done.stderr
        assert SECRET not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["client-secret"]
    assert (tmp_path / "client-secret").read_text() == "old"


def test_init_writes_where_config_says(tmp_path: Path) -> None:
    """`--config`, else $PAYPROXY_CONFIG, names the file; a secret goes beside it."""
    env = {"JPM_CLIENT_SECRET": SECRET, "PAYPROXY_CONFIG": str(tmp_path / "b" / "two.toml")}
    assert run("init", "--config", "a/one.toml", cwd=tmp_path, env=env).returncode == 0
    assert run("init", cwd=tmp_path, env=env).returncode == 0
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["a/client-secret", "a/one.toml", "b/client-secret", "b/two.toml"]


def test_init_says_what_is_open(tmp_path: Path) -> None:
    """What only the bank knows is named, in words and in JSON."""
    words = run("init", "--flavor", "basic", cwd=tmp_path)
    assert "client_id" in words.stderr
    assert "client-secret (chmod 600)" in words.stderr
    data = json.loads(run("init", "--flavor", "adfs", "--json", "--config", "adfs.toml", cwd=tmp_path).stdout)
    assert data["flavor"] == "adfs"
    assert data["open"] == ["client_id", "audience (the resource id)"]


def test_init_refuses_a_line_break_in_a_variable(tmp_path: Path) -> None:
    """A value that could end its line is refused without being shown."""
    done = run("init", cwd=tmp_path, env={"JPM_CLIENT_SECRET": f"{SECRET}\n[server]"})
    assert done.returncode == 1
    assert "JPM_CLIENT_SECRET" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
