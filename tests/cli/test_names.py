import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from proxy.cli.main import payproxy
from tests.cli.support import environment, run_process

CONFIGURATION = """
[callers.erp]
[callers.batch]
[credentials.login]
[credentials.adfs]
[migrations.move]
[[routes]]
name = "payments"
[[routes]]
name = "reports"
"""


def completed(folder: Path, line: str) -> list[str]:
    """Return what the shell is offered in *folder* for the last word of *line*, which may be empty."""
    _, *arguments, incomplete = line.split(" ")
    with contextlib.chdir(folder):
        return [
            item.value for item in ShellComplete(payproxy, {}, "payproxy", "").get_completions(arguments, incomplete)
        ]


def test_bash_gets_names(tmp_path: Path) -> None:
    """As a process, which bash runs at each press of the key."""
    (tmp_path / "payproxy.toml").write_text(CONFIGURATION)
    words = {"_PAYPROXY_COMPLETE": "bash_complete", "COMP_WORDS": "payproxy logs search --route ", "COMP_CWORD": "4"}

    done = run_process(cwd=tmp_path, env=words)

    assert (done.stdout, done.stderr) == ("plain,payments\nplain,reports\n", "")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("payproxy token ", ["payments", "reports"]),
        ("payproxy token re", ["reports"]),
        ("payproxy assertion ", ["adfs", "login"]),
        ("payproxy logs search --caller ", ["batch", "erp"]),
        ("payproxy logs tail --route p", ["payments"]),
        ("payproxy explain GET / --caller e", ["erp"]),
        ("payproxy migration set ", ["move"]),
        ("payproxy migration status ", ["move"]),
        ("payproxy migration report m", ["move"]),
        ("payproxy migration set move 5 --release ", ["batch", "erp"]),
    ],
)
def test_names_of_the_configuration_are_offered(tmp_path: Path, line: str, names: list[str]) -> None:
    """Routes, callers, credentials and migrations, as the file has them."""
    (tmp_path / "payproxy.toml").write_text(CONFIGURATION)

    assert completed(tmp_path, line) == names


def test_the_file_is_the_one_that_the_command_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of --config before the word, else of the variable."""
    (tmp_path / "other.toml").write_text(CONFIGURATION)

    assert completed(tmp_path, "payproxy token --config other.toml p") == ["payments"]
    assert completed(tmp_path, "payproxy token p") == []
    monkeypatch.setenv("PAYPROXY_CONFIG", "other.toml")
    assert completed(tmp_path, "payproxy token p") == ["payments"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"environment = [\n{CONFIGURATION}", ["payments", "reports"]),
        ("routes = 3", []),
        ('routes = [1, {name = 2}, {name = "a\\nb"}]', []),
        ("[routes.x]", ["x"]),
        ("\0", []),
        ("", []),
    ],
)
def test_a_broken_file_never_fails(tmp_path: Path, text: str, names: list[str]) -> None:
    """What can be read is offered; nothing is printed into the shell's line."""
    (tmp_path / "payproxy.toml").write_text(text)

    assert completed(tmp_path, "payproxy token ") == names


def test_a_file_that_cannot_be_read_never_fails(tmp_path: Path) -> None:
    """A folder, or a pipe that would wait for ever."""
    (tmp_path / "payproxy.toml").mkdir()

    assert completed(tmp_path, "payproxy token ") == []


def test_a_shell_does_not_wait_for_the_settings() -> None:
    """Completion imports neither pydantic nor cryptography nor aiohttp."""
    code = (
        "import sys\nimport proxy.cli.names\n"
        "sys.exit(str({'cryptography', 'aiohttp', 'pydantic', 'jwt'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)

    assert done.stderr == "\n"
