import asyncio
import resource
import signal
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.cli import health as whole
from proxy.cli import instance, main, names
from proxy.cli import quick_health as quick
from proxy.cli.quick_health import data_directory_of, options_of, quick_health, socket_path
from proxy.settings import sources
from tests.cli.support import PAYPROXY, environment
from tests.cli.test_health import configuration, hanging
from tests.keeper.support import Keeper
from tests.telemetry.support import status


@pytest.mark.parametrize("options", [[], ["--ready"]])
@pytest.mark.parametrize("draining", [True, False])
@pytest.mark.parametrize("named", ["--config", "--socket", "PAYPROXY_CONFIG", "here"])
async def test_a_probe_gets_the_same_answer_quickly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    options: list[str],
    draining: bool,
    named: str,
) -> None:
    """What a probe's few modules print and return is what the whole command does, however the instance is named."""
    path = configuration(tmp_path)
    monkeypatch.chdir(tmp_path)
    if named == "PAYPROXY_CONFIG":
        monkeypatch.setenv(named, str(path))
    arguments = [
        *{"--config": ["--config", str(path)], "--socket": ["--socket", "admin.sock"]}.get(named, []),
        *options,
    ]
    reason = "not\x1b[2J allowed\n" * 40
    async with Keeper(status=status(draining=draining, reload_problem=reason)).server(tmp_path, listen=None):
        result = await asyncio.to_thread(CliRunner().invoke, whole.health, arguments, standalone_mode=False)
        capsys.readouterr()
        code = await asyncio.to_thread(quick_health, arguments)

    assert (code, capsys.readouterr().out) == (result.return_value, result.stdout)
    assert code == (1 if draining and options else 0)


async def test_a_probe_that_can_not_print_says_so_in_one_line(tmp_path: Path) -> None:
    """As every other command: not by a traceback of Python's end."""
    configuration(tmp_path)
    line = ("/bin/sh", "-c", f"exec {PAYPROXY} health > /dev/full")
    async with Keeper(status=status()).server(tmp_path, listen=None):
        process = await asyncio.create_subprocess_exec(
            *line, cwd=tmp_path, env=environment(), stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()

    assert (process.returncode, said) == (1, b"error: stdout can't be written: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [["--json"], ["-h"], ["--config"], ["--config="], ["--config", "--ready"], ["--socket", ""], ["--redy"], ["x"]],
)
def test_other_options_are_for_the_whole_command(arguments: list[str]) -> None:
    """Help, JSON, typing mistakes and abbreviations are click's, with its words and exit codes."""
    assert options_of(arguments) is None
    assert options_of(["--ready", *arguments]) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok\n",
        b"HTTP/1.1 200 OK\r\n\r\n[+]keeper ok\nlivez check pass",
        b"HTTP/1.1 200 OK\r\n\r\n[+]keeper ok\nlivez check passed\nand more",
        b"HTTP/1.1 200 OK\r\n\r\n[-]keeper failed: canary\nlivez check failed\n",
        b"HTTP/1.1 503 Unavailable\r\n\r\n[+]keeper ok\nlivez check passed\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n[+]keeper ok\nlivez check passed\n",
        b"HTTP/1.1 x\r\n\r\n[+]keeper ok\nlivez check passed\n",
        b"SSH-2.0 200 OK\r\n\r\n[+]keeper ok\nlivez check passed\n",
        b"HTTP/1.1 200 OK\r\n\r\n[+]\xff ok\nlivez check passed\n",
    ],
)
async def test_another_answer_is_for_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    """An answer that is cut, contradicts itself or is not ours prints nothing and is asked for again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "admin.sock")
    async with server:
        code = await asyncio.to_thread(quick_health, ["--socket", str(tmp_path / "admin.sock")])

    assert (code, capsys.readouterr().out) == (None, "")


def test_without_an_answer_the_whole_command_says_so(tmp_path: Path) -> None:
    """Nobody there, no file, a directory instead of the file: none is for the probe to explain."""
    assert quick_health(["--config", str(configuration(tmp_path))]) is None
    assert quick_health(["--config", str(tmp_path / "missing.toml")]) is None
    assert quick_health(["--config", str(tmp_path)]) is None
    assert quick_health(["--socket", f"/{'x' * 200}"]) is None


async def test_an_instance_that_hangs_is_not_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The probe says what the whole command would say, which had no time left for it."""
    path = configuration(tmp_path)
    with hanging(tmp_path):
        code = await asyncio.to_thread(quick_health, ["--config", str(path)])
        printed = capsys.readouterr()
        asked = await asyncio.to_thread(CliRunner().invoke, main.payproxy, ["health", "--config", str(path)])

    assert (code, printed.out) == (1, "")
    assert (code, printed.err) == (asked.exit_code, asked.stderr)
    assert quick._TIMEOUT_SECONDS == instance.PROBE_SECONDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("\n", ""),
        ('environment = "mock"\n# data_directory = "old"\n[admin]\nlisten = ""\n', ""),
        ('data_directory = "data"\n', "data"),
        ("\ufeffdata_directory='/var/lib/payproxy' # ours\r\n[admin]\r\n", "/var/lib/payproxy"),
        ('data_directory = ""', ""),
        ('data_directory = "a\\u0062"', None),
        ('data_directory = "data', None),
        ('data_directory = "a" "b"', None),
        ("data_directory = data", None),
        ('data_directory = "a"\ndata_directory = "b"', None),
        ('[admin]\ndata_directory = "a"', None),
        ('x = [\n[1]]\ndata_directory = "a"', None),
        ('x = """\ndata_directory = "a"\n"""', None),
        ("x = '''\ndata_directory = 'a'\n'''", None),
        ('"data_directory" = "a"', None),
        ('"data\\u005fdirectory" = "a"', None),
        ('admin.data_directory = "a"', None),
    ],
)
def test_a_plain_line_takes_no_parser(tmp_path: Path, text: str, expected: str | None) -> None:
    """One line at the top or none at all; whatever could mean something else to a TOML parser is left to one."""
    path = tmp_path / "payproxy.toml"
    path.write_bytes(text.encode())
    found = socket_path({"--config": str(path)}, {})

    assert found == (None if expected is None else str(tmp_path / (expected or "payproxy-data") / "admin.sock"))


_LINES = ('data_directory = "b"\n', "data_directory='c' # d\n", "[t]\n", 'x = "y"\n', "x = [\n[1],\n", "]\n", '"""\n')
_PIECES = ("data_directory", '"data\\u005fdirectory"', '"', " ", "=", "'", "a", "#", "\n", "\\", ".", 'z = """\n')


@given(st.lists(st.sampled_from(_LINES + _PIECES), max_size=10))
@example(['z = """\n', 'data_directory = "b"\n', '"""\n'])
@example(['"data\\u005fdirectory"', "=", "'a'"])
def test_what_takes_no_parser_is_what_a_parser_says(pieces: list[str]) -> None:
    """Of any text that is TOML, data_directory without a parser is the parser's, or none is given."""
    text = "".join(pieces)
    try:
        expected = tomllib.loads(text).get("data_directory", "")
    except tomllib.TOMLDecodeError:
        return
    assert data_directory_of(text.encode()) in {None, expected if isinstance(expected, str) else None}


@pytest.mark.parametrize("environ", [{}, {"STATE_DIRECTORY": "/state:/other"}, {"PAYPROXY_CONFIG": "etc/other.toml"}])
@pytest.mark.parametrize("there", [True, False])
def test_a_probe_looks_where_the_whole_command_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *, there: bool
) -> None:
    """The configuration and the data directory are found by the same rules."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/other.toml").write_text('data_directory = "there"')
    if there:
        (tmp_path / "payproxy.toml").write_text("[admin]\n")
    monkeypatch.chdir(tmp_path)
    found = socket_path({}, environ)

    assert found is not None
    assert tmp_path / found == whole.find_endpoints(None, environ=environ, cwd=tmp_path).socket


def test_the_names_are_the_same_everywhere() -> None:
    """The names that are written more than once, for the sake of a fast start, are the same."""
    assert quick.FILE_NAME == names.FILE_NAME == sources.FILE_NAME
    assert Path(quick.SYSTEM_FILE) == names.SYSTEM_FILE == sources.SYSTEM_FILE
    assert quick.DATA_DIRECTORY == instance.DATA_DIRECTORY == sources.DEFAULT_DATA_DIRECTORY
    assert quick.SOCKET_NAME == instance.SOCKET_NAME


async def test_a_probe_imports_next_to_nothing(tmp_path: Path) -> None:
    """Every few seconds, for years: beside Python's own start, three modules of ours, sockets and prctl."""
    code = (
        "import sys; before = {*sys.modules}; import atexit; from proxy.cli.entry import main\n"
        "atexit.register(lambda: print(*sorted({*sys.modules} - before - {'atexit'})))\n"
        "main()"
    )
    async with Keeper().server(tmp_path, listen=None):
        arguments = ["health", "--ready", "--config", str(configuration(tmp_path))]
        probe = await asyncio.to_thread(_python, "-I", "-c", code, *arguments)

    *answer, loaded = probe.stdout.splitlines()
    assert probe.returncode == 0
    assert "workers ok" in answer
    ours = {"proxy", "proxy.cli", "proxy.cli.entry", "proxy.cli.quick_health", "proxy.memory_protection"}
    assert {*loaded.split()} - ours <= {
        "_socket",
        "ctypes",
        "ctypes._endian",
        "_ctypes",
        "_struct",
        "struct",
        "resource",
    }


def test_the_entry_point_is_the_quick_one() -> None:
    """For the command and for `python -m proxy`; what is no probe goes to the whole command."""
    (script,) = entry_points(group="console_scripts", name="payproxy")

    assert script.value == "proxy.cli.entry:main"
    assert _python("-m", "proxy", "health", "--help").stdout.startswith("Usage: payproxy health")


def test_an_interrupted_probe(tmp_path: Path) -> None:
    """Ctrl-C while it waits for the answer is exit code 130, as everywhere; its memory is protected meanwhile."""
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        command = [sys.executable, "-m", "proxy", "health", "--socket", path]
        probe = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        asked, _ = silent.accept()
        with asked:
            assert asked.recv(3) == b"GET"
            assert resource.prlimit(probe.pid, resource.RLIMIT_CORE) == (0, 0)
            probe.send_signal(signal.SIGINT)
            _, errors = probe.communicate()

    assert (probe.returncode, errors) == (130, "interrupted\n")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
