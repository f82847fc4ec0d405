import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.checks.offline import checked
from proxy.checks.reading import Checked, Checks
from proxy.keeper.configuration_process import ConfigurationNotRead, read_in_new_process
from proxy.settings.load import load
from proxy.settings.values import masked
from tests.settings.support import plain

CHECKS = Checks(now=1_800_000_000.0, container=True, users=("eve",), devices=False)
SECRET = {"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "canary-1"}
DATABASE = "postgresql://me:canary-2@db.test/log?sslmode=verify-full"
# What a keeper does at its start, in a process of its own: pytest has threads, which a fork would not have.
_AT_START = """
import json, os, sys
from pathlib import Path
import proxy.cli.serve
from proxy.checks.reading import Checks
from proxy.keeper.configuration_process import ConfigurationNotRead, read_in_fork
from proxy.settings.values import masked
BROKEN
checks = Checks(now=1_800_000_000.0, container=True, users=("eve",), devices=False)
try:
    found = read_in_fork(None, cwd=Path.cwd(), checks=checks)
except ConfigurationNotRead as error:
    sys.exit(str(error))
settings = found.loaded.settings
print(json.dumps({
    "settings": masked(settings) if settings else None,
    "secret": settings.credentials["login"].client_secret.reveal() if settings else None,
    "findings": list(map(str, found.findings)),
    "imported": [name for name in sys.modules if name.startswith("pydantic") or name == "proxy.settings.load"],
}))
"""

# An interpreter that says at its end whether its process may be dumped and traced (prctl(2): PR_GET_DUMPABLE).
_WITH_DUMPABLE = """#!{python}
import ctypes, os, runpy, sys
leave = os._exit
def told(code):
    open("{file}", "w").write(str(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)))
    leave(code)
os._exit = told
del sys.argv[1:4]
runpy.run_module("proxy.keeper.configuration_process", run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration that has a warning, a secret and a database with a password."""
    path = tmp_path / "payproxy.toml"
    path.write_text(plain(('client_secret_file = "secret"\n', ""), more='[request_log]\nfile = "requests.jsonl"\n'))
    return tmp_path


def here(folder: Path, environ: dict[str, str]) -> Checked:
    """Return what the configuration in *folder* is when it is read in this process."""
    return checked(load(folder / "payproxy.toml", environ=environ, cwd=folder), CHECKS)


def at_start(folder: Path, *, broken: str = "") -> subprocess.CompletedProcess[str]:
    """Read the configuration in *folder* as a keeper does at its start; *broken* is run before."""
    return subprocess.run(
        [sys.executable, "-c", _AT_START.replace("BROKEN", broken)],
        cwd=folder,
        env=os.environ | SECRET,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("text", ["", "[server]\nworkers = 'x'\n", "="])
def test_another_process_reads_what_this_one_would(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Values, secrets, findings and where each value comes from; also of a file with faults, and of one of nonsense."""
    path = folder / "payproxy.toml"
    path.write_text(path.read_text().replace("[server]\n", text or "[server]\n", 1))
    for name, value in (SECRET | {"PAYPROXY_REQUEST_LOG__DATABASE": DATABASE}).items():
        monkeypatch.setenv(name, value)
    expected = here(folder, dict(os.environ))
    found = read_in_new_process(path, cwd=folder, checks=CHECKS)

    assert found == expected
    assert (found.loaded.settings is None) == bool(text)
    if found.loaded.settings is not None:
        assert found.loaded.settings.request_log.database.reveal() == DATABASE
        assert "canary" not in f"{found}{masked(found.loaded.settings)}"


def test_at_the_start_a_fork_reads_it(folder: Path) -> None:
    """It tells the same, and pydantic stays in it."""
    expected = here(folder, SECRET)
    done = at_start(folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)

    assert expected.loaded.settings is not None
    assert found["settings"] == masked(expected.loaded.settings)
    assert found["secret"] == "canary-1"
    assert len(found["findings"]) == len(expected.findings) > 0
    assert found["imported"] == []


def test_a_defect_there_quotes_no_secret(folder: Path) -> None:
    """The lines of the traceback and the kind of the error, not its text, which is foreign."""
    broken = (
        "import proxy.checks.offline\n"
        "def checked(*_): raise ValueError('canary-3')\n"
        "proxy.checks.offline.checked = checked\n"
    )
    done = at_start(folder, broken=broken)

    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert "the process that reads the configuration ended with 1" in done.stderr
    assert "canary" not in done.stderr.replace("raise ValueError('canary-3')", "")


def test_one_that_is_killed_is_no_configuration(folder: Path) -> None:
    """Half an answer is none."""
    broken = (
        "import proxy.keeper.configuration_process as process, signal\n"
        "def half(descriptor, *_, **__):\n"
        "    os.write(descriptor, b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "process._answer_and_exit = half\n"
    )
    done = at_start(folder, broken=broken)

    assert done.returncode == 1
    assert f"the process that reads the configuration ended with {-signal.SIGKILL.value}" in done.stderr


def test_its_memory_is_protected_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the secrets for a moment; no other process of this user may look, and no core dump has them."""
    program = folder / "python"
    program.write_text(_WITH_DUMPABLE.format(python=sys.executable, file=folder / "dumpable"))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    read_in_new_process(folder / "payproxy.toml", cwd=folder, checks=CHECKS)

    assert (folder / "dumpable").read_text() == "0"


@pytest.mark.parametrize(
    ("program", "message"), [("/bin/false", "ended with 1"), ("/absent", "can't be started: No such file")]
)
def test_a_process_that_does_not_start_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    """A keeper that runs on with the old configuration says why."""
    monkeypatch.setattr(sys, "executable", program)

    with pytest.raises(ConfigurationNotRead, match=message):
        read_in_new_process(folder / "payproxy.toml", cwd=folder, checks=CHECKS)
