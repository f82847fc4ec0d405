import errno
import io
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proxy.cli.main import COMMANDS, LazyCommand, LazyGroup, payproxy, run
from proxy.cli.output import ExitCode, Failure
from proxy.credentials.csr import EXAMPLE_SUBJECT
from tests.cli.support import PAYPROXY, environment
from tests.cli.support import run_process as command


@click.command()
@click.argument("ending")
def ends(ending: str) -> None:
    """End in the way the test asks for."""
    match ending:
        case "interrupt":
            raise KeyboardInterrupt
        case "failure":
            raise Failure("the bank is away\x1b[2J", code=ExitCode.UNAVAILABLE)
        case "defect":
            raise RuntimeError(f"canary-{ending}")
        case "exit":
            raise click.exceptions.Exit(ExitCode.FAILED)


@pytest.fixture
def one_more_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with one more command: the one above."""
    assert isinstance(payproxy, LazyGroup)
    monkeypatch.setattr(payproxy, "lazy_commands", {**COMMANDS, "ends": LazyCommand(f"{__name__}:ends", "End.")})


@pytest.mark.usefixtures("one_more_command")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ends", "well"], 0, ""),
        (["ends", "exit"], 1, ""),
        (["ends", "defect"], 1, "internal error: RuntimeError"),
        (["ends", "failure"], 69, "error: the bank is away"),
        (["ends", "interrupt"], 130, "interrupted"),
        (["ends"], 2, "Missing argument 'ENDING'"),
        (["nonsense"], 2, "No such command 'nonsense'."),
        (["statsu"], 2, "Did you mean 'status'?"),
        (["verify"], 2, "Did you mean 'logs verify'?"),
        (["logs", "serch"], 2, "Did you mean 'search'?"),
        (["migration", "rolback"], 2, "Did you mean 'rollback'?"),
        (["callers", "nwe"], 2, "No such command 'nwe'"),
        (["status", "--wacth"], 2, "Did you mean"),
        (["ends", "--nonsense"], 2, "No such option"),
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    """Each way to end has its code, its words on stderr, and no word of a foreign exception or control character."""
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert "canary-defect" not in printed.err
    assert "\x1b" not in printed.err


def test_every_place_is_a_command_of_that_name() -> None:
    """The table's targets exist, and each is the command whose name leads to it."""
    for name, place in COMMANDS.items():
        module, _, attribute = place.target.partition(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        assert found.name == name
        assert payproxy.get_command(click.Context(payproxy), name) is found


def test_help_lists_all_commands_and_imports_none(tmp_path: Path) -> None:
    """Help names every command without loading cryptography, aiohttp, pydantic or a command's module."""
    code = (
        "import sys\n"
        "from proxy.cli.main import run\n"
        "run(['--help'])\n"
        "heavy = {'cryptography', 'aiohttp', 'pydantic', 'jwt', 'proxy.cli.keys'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())  # a long summary goes on in the next line
    for name, place in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert place.summary in words


def test_first_steps_as_processes(tmp_path: Path) -> None:
    """Data on stdout, messages on stderr and exit codes are what a shell sees; other tests run commands in process."""
    arguments = ("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT)
    assert [command(*arguments, cwd=tmp_path).returncode for _ in range(2)] == [0, 1]
    assert command("init", cwd=tmp_path, env={"JPM_CLIENT_ID": "client-1"}).returncode == 0
    assert command("check", cwd=tmp_path).stdout == "no findings\n"
    assertion = command("assertion", "login", cwd=tmp_path)
    assert (assertion.stdout.count("."), assertion.stderr) == (2, "")
    assert "payments" in command("explain", "GET", "/payment/v2", cwd=tmp_path).stdout
    assert command("callers", "new", "erp", cwd=tmp_path).stdout.startswith("key: ")
    broken = command("config", "show", "--config", "missing.toml", cwd=tmp_path)
    assert (broken.returncode, broken.stdout, "error:" in broken.stderr) == (78, "", True)


def redirected(where: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `payproxy` as a process whose stdout a shell has sent to *where*."""
    line = ["/bin/sh", "-c", f'exec "$0" "$@" {where}', str(PAYPROXY), *arguments]
    return subprocess.run(line, cwd=cwd, env=environment(), stderr=subprocess.PIPE, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("callers", "new", "erp", "--json"), ("config", "schema"), ("keys", "inspect", "oauth.crt")],
)
def test_output_that_can_not_be_written_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A disk that is full, and a stdout that is closed: no command, and nobody has to report it."""
    command("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path)
    full = redirected("> /dev/full", *arguments, cwd=tmp_path)
    closed = redirected(">&-", *arguments, cwd=tmp_path)

    assert (full.returncode, full.stderr) == (1, "error: stdout can't be written: No space left on device\n")
    assert (closed.returncode, closed.stderr) == (
        1,
        "error: stdout is closed: redirect it to a file, or to /dev/null\n",
    )


@pytest.mark.usefixtures("one_more_command")
@pytest.mark.parametrize(
    ("failure", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EIO, "Input/output error")]
)
def test_output_that_fails_within_another_error_is_said_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: int, words: str
) -> None:
    """As in a task group, whose own error has another type."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(failure, words)

    monkeypatch.setattr(sys, "stdout", Full())

    assert run(["ends", "defect"]) == ExitCode.FAILED
    assert capsys.readouterr().err == f"error: stdout can't be written: {words}\n"


def test_version_by_either_name(tmp_path: Path) -> None:
    """`payproxy --version` and `python -m proxy --version` are one command."""
    module = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert module.stdout == command("--version", cwd=tmp_path).stdout
    assert module.stdout.startswith("payproxy ")


def test_completion_knows_commands_and_options(tmp_path: Path) -> None:
    """Bash gets its script, then names from the table and a subcommand's options."""
    script = command(cwd=tmp_path, env={"_PAYPROXY_COMPLETE": "bash_source"})
    assert "complete" in script.stdout
    words = {"_PAYPROXY_COMPLETE": "bash_complete", "COMP_WORDS": "payproxy ke", "COMP_CWORD": "1"}
    assert command(cwd=tmp_path, env=words).stdout.split() == ["plain,keys"]
    words = {"_PAYPROXY_COMPLETE": "bash_complete", "COMP_WORDS": "payproxy keys new --c", "COMP_CWORD": "3"}
    assert command(cwd=tmp_path, env=words).stdout.split() == ["plain,--csr"]


def test_interrupted_process_ends_with_130(tmp_path: Path) -> None:
    """SIGINT while a command reads ends the process with 130 and no traceback."""
    pipe = tmp_path / "records.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [PAYPROXY, "logs", "verify", pipe],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Opening it for writing ends once the command has opened it for reading.
        writer = os.open(pipe, os.O_WRONLY)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        os.close(writer)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_no_color_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal errors are coloured, with NO_COLOR they are not, and elsewhere never."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.chdir(tmp_path)
    for variable, coloured in [("", True), ("1", False)]:
        monkeypatch.setenv("NO_COLOR", variable)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert run(["config", "show", "--config", "missing.toml"]) == 78
        assert ("\x1b[31m" in terminal.getvalue()) is coloured
    assert "\x1b" not in CliRunner().invoke(payproxy, ["config", "show", "--config", "missing.toml"]).stderr
