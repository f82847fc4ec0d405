import asyncio
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from proxy.checks.offline import checked
from proxy.checks.reading import Checked, Checks
from proxy.keeper.configuration_process import ConfigurationNotRead, ConfigurationReader
from proxy.secret import Secret
from proxy.settings.load import load
from proxy.settings.values import masked
from tests.records.support import until
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

# A program in the interpreter's place, which shows what its processes start with and what happens to them.
_WRAPPER = """#!/bin/sh
cat /proc/$$/environ > {folder}/environ
echo $$ > {folder}/pid
{then}
"""
# What the child does, but it says at its end whether it may be dumped and traced (prctl(2): PR_GET_DUMPABLE).
_WITH_DUMPABLE = """
import ctypes, os, sys
leave = os._exit
def told(code):
    open("{folder}/dumpable", "w").write(str(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)))
    leave(code)
os._exit = told
exec(sys.argv[1])
"""
_HANGING = """
import functools, time
import proxy.keeper.configuration_process as process
process._answer_and_exit = lambda *_, **__: time.sleep(600)
read_in_fork = functools.partial(read_in_fork, seconds=0.5)
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


def new_process(folder: Path, *, seconds: float = 60.0) -> Checked:
    """Return what the configuration in *folder* is when it is read as at a reload."""
    return ConfigurationReader(folder / "payproxy.toml", cwd=folder, seconds=seconds).read(CHECKS)


def wrapped(folder: Path, then: str) -> str:
    """Return a program that writes its environment and PID into *folder*, and does *then*."""
    program = folder / "python"
    program.write_text(_WRAPPER.format(folder=folder, then=then))
    program.chmod(0o700)
    return str(program)


def has_ended(pid: int) -> bool:
    """Return whether there is no process *pid* any more, or nothing but its entry."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


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
    found = new_process(folder)

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
    (folder / "wrapper.py").write_text(_WITH_DUMPABLE.format(folder=folder))
    monkeypatch.setattr(sys, "executable", wrapped(folder, f'exec {sys.executable} -P {folder}/wrapper.py "$3"'))
    new_process(folder)

    assert (folder / "dumpable").read_text() == "0"


def test_it_starts_with_no_secret_and_gets_the_environment_when_it_is_protected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then /proc/PID/environ is open to other processes of this user; devices inherit the rest as ever."""
    monkeypatch.setenv(*next(iter(SECRET.items())))
    monkeypatch.setattr(sys, "executable", wrapped(folder, f'exec {sys.executable} "$@"'))
    found = new_process(folder)

    assert found.loaded.settings is not None
    assert found.loaded.settings.credentials["login"].client_secret == Secret("canary-1")
    started_with = (folder / "environ").read_text()
    assert "PYTHONPATH=" in started_with
    assert "PAYPROXY_" not in started_with
    assert "canary" not in started_with


def test_one_that_is_not_protected_is_told_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its word the question, with the environment, is not sent."""
    monkeypatch.setenv(*next(iter(SECRET.items())))
    monkeypatch.setattr(sys, "executable", wrapped(folder, f"printf x; cat > {folder}/told"))

    with pytest.raises(ConfigurationNotRead, match="gave another answer"):
        new_process(folder)
    assert (folder / "told").read_bytes() == b""


def test_it_runs_from_sources_without_an_installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-P` keeps the working directory from the path, and -S what pip has installed: PYTHONPATH has the sources."""
    packages = sysconfig.get_path("purelib")
    then = f'PYTHONPATH="$PYTHONPATH:{packages}" exec {sys.executable} -S "$@"'
    monkeypatch.setattr(sys, "executable", wrapped(folder, then))

    assert new_process(folder).loaded.path == folder / "payproxy.toml"


@pytest.mark.parametrize("said", ["", "echo;"])
def test_a_process_that_hangs_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Before or after it has said that its memory is protected."""
    monkeypatch.setattr(sys, "executable", wrapped(folder, f"{said} exec sleep 600"))

    with pytest.raises(ConfigurationNotRead, match=r"did not answer within 0\.5 s"):
        new_process(folder, seconds=0.5)
    pid = (folder / "pid").read_text() if (folder / "pid").exists() else ""
    assert not pid or has_ended(int(pid))  # no PID: a busy machine has not come that far


def test_a_fork_that_hangs_is_killed(folder: Path) -> None:
    """The same bound at the start."""
    done = at_start(folder, broken=_HANGING)

    assert done.returncode == 1
    assert "did not answer within 0.5 s" in done.stderr


async def test_a_keeper_that_stops_waits_for_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kills the process, and the thread that waits for it ends."""
    monkeypatch.setattr(sys, "executable", wrapped(folder, "exec sleep 600"))
    reader = ConfigurationReader(folder / "payproxy.toml", cwd=folder, seconds=600.0)
    reading = asyncio.create_task(asyncio.to_thread(reader.read, CHECKS))
    await until((folder / "pid").exists)
    reader.close()

    with pytest.raises(ConfigurationNotRead, match="ended with -9"):
        await reading


async def test_it_does_not_outlive_its_keeper(folder: Path) -> None:
    """A keeper that is killed can't end it: the kernel does."""
    told = "import os\ndef hang(*_, **__):\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
    hook = "import proxy.checks.offline, time\nproxy.checks.offline.checked = hang\n"
    code = _AT_START.replace("BROKEN", told + hook)
    keeper = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=folder, stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    child = int(await keeper.stdout.readline())
    keeper.kill()
    await keeper.wait()

    await until(lambda: has_ended(child))


def test_no_process_left_is_told_at_the_start(folder: Path) -> None:
    """Without a traceback."""
    broken = "import errno\ndef fork(): raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))\nos.fork = fork\n"
    done = at_start(folder, broken=broken)

    assert done.returncode == 1
    assert done.stderr == (
        "the process that reads the configuration can't be started: Resource temporarily unavailable\n"
    )


@pytest.mark.parametrize(
    ("program", "message"), [("/bin/false", "ended with 1"), ("/absent", "can't be started: No such file")]
)
def test_a_process_that_does_not_start_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    """A keeper that runs on with the old configuration says why."""
    monkeypatch.setattr(sys, "executable", program)

    with pytest.raises(ConfigurationNotRead, match=message):
        new_process(folder)
