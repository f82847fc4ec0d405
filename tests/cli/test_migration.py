from pathlib import Path

import pytest

from tests.cli.support import run

CONFIGURATION = """\
environment = "mock"
[upstreams.bank]
url = "http://127.0.0.1:1"
[upstreams.other]
url = "http://127.0.0.1:2"
[credentials.old]
flavor = "basic"
client_id = "old"
client_secret_file = "secret"
token_url = "http://127.0.0.1:1/token"
[credentials.new]
flavor = "basic"
client_id = "new"
client_secret_file = "secret"
token_url = "http://127.0.0.1:1/token"
[[routes]]
name = "payments"
path = "/payment"
upstream = "bank"
credential = "old"
audience = "RS-1"
[migrations.payments]
routes = ["payments"]
legacy = { credential = "old", audience = "RS-1" }
modern = { credential = "new", audience = "uri:1" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a configuration, and no instance."""
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "payproxy.toml").write_text(CONFIGURATION)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["set", "payments", "10", "--reason", "r"],
        ["rollback", "payments", "--reason", "r"],
        ["finish", "payments", "--reason", "r"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_an_instance_it_says_so(folder: Path, arguments: list[str]) -> None:
    """69, and where it looked; nothing is made."""
    done = run("migration", *arguments, cwd=folder)

    assert done.returncode == 69
    assert "no instance answers" in done.stderr
    assert "admin.sock" in done.stderr
    assert not done.stdout
    assert not (folder / "payproxy-data").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["set", "payments", "10"], "--reason"),
        (["rollback", "payments"], "--reason"),
        (["finish", "payments"], "--reason"),
        (["set", "payments", "101", "--reason", "r"], "101"),
        (["set", "payments", "ten", "--reason", "r"], "ten"),
        (["set", "paiments", "10", "--reason", "r"], 'did you mean "payments"?'),
        (["rollback", "payments", "--to", "100", "--reason", "r"], "100"),
        (["move", "payments"], "move"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_a_usage_error(folder: Path, arguments: list[str], why: str) -> None:
    """A change without a reason is none."""
    done = run("migration", *arguments, cwd=folder)

    assert done.returncode == 2
    assert why in done.stderr
