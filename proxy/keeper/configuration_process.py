"""Reads and checks the configuration in a process of its own, which ends at once.

pydantic and what else only validation needs would be 11 MB of the keeper for as long as it runs (decision 0037). The
answer comes through a pipe: it has the secrets of the configuration.
"""

import gc
import io
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from proxy.checks.reading import Checked, Checks
from proxy.child_environment import child_environment
from proxy.clock import SystemClock
from proxy.credentials.refused_pins import ALL_TOKENS, REFUSED_PINS, TurnNotGiven
from proxy.memory_protection import end_with_parent
from proxy.secret import Secret

# Tokens that hold keys are asked too, each within seconds: what takes longer hangs, as a file system may.
SECONDS = 60.0
# Until protect_memory has run, the user's other processes can look: it is first, and the environment comes after it.
_CHILD = (
    "from proxy.memory_protection import protect_memory; protect_memory(); "
    "from proxy.keeper.configuration_process import answer; answer()"
)
_PROTECTED = b"\n"


class ConfigurationNotRead(Exception):
    """The process that reads the configuration gave no answer; a defect is told on its stderr."""


def read_in_fork(path: Path | None, *, cwd: Path, checks: Checks, seconds: float = SECONDS) -> Checked:
    """Read the configuration at the start, while this process has one thread; raises ConfigurationNotRead.

    The copy of this process has imported already what both need: a new interpreter would take 0.15 s of CPU more.
    """
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as pipe:
        try:
            child = os.fork()
            if child == 0:
                _answer_and_exit(theirs, path, cwd=cwd, checks=checks)
        except OSError as error:
            raise _not_started(error) from None
        finally:
            os.close(theirs)
        if late := not _readable(ours, seconds):
            os.kill(child, signal.SIGKILL)
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if late:
        raise _unanswered(seconds)
    return _checked(answer, os.waitstatus_to_exitcode(status))


class ConfigurationReader:
    """Reads the configuration at *path* while this process has threads, which can't be forked; any thread may ask.

    A child that does not answer within *seconds* is killed.
    """

    def __init__(self, path: Path, *, cwd: Path, seconds: float = SECONDS) -> None:
        self._path = path
        self._cwd = cwd
        self._seconds = seconds
        self._running: set[subprocess.Popen[bytes]] = set()

    def read(self, checks: Checks) -> Checked:
        """Read and check it in a new interpreter; raises ConfigurationNotRead."""
        if not checks.devices:
            return self._read(checks)
        deadline = SystemClock.monotonic() + self._seconds
        try:
            # A PIN that has just been written must be tried by this process or by that one, not by both.
            with REFUSED_PINS.turn(ALL_TOKENS, given_up=lambda: SystemClock.monotonic() > deadline):
                return self._read(checks)
        except TurnNotGiven:
            raise ConfigurationNotRead("keys in tokens are being opened, which takes too long") from None

    def _read(self, checks: Checks) -> Checked:
        asked = {
            "path": str(self._path),
            "cwd": str(self._cwd),
            "checks": asdict(checks),
            "environ": dict(os.environ),
            "refused_pins": REFUSED_PINS.state(),
        }
        command = (sys.executable, "-P", "-c", _CHILD)
        try:
            process = subprocess.Popen(  # noqa: S603 - this module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), bufsize=0
            )
        except OSError as error:
            raise _not_started(error) from None
        self._running.add(process)
        try:
            answer = _answer_of(process, json.dumps(asked).encode(), self._seconds)
        except subprocess.TimeoutExpired:
            raise _unanswered(self._seconds) from None
        finally:
            _end(process)
            self._running.discard(process)
        return _checked(answer, process.returncode)

    def close(self) -> None:
        """Kill the children whose answer nobody waits for any more."""
        for process in tuple(self._running):
            process.kill()


def _answer_of(process: subprocess.Popen[bytes], question: bytes, seconds: float) -> bytes:
    """Ask *process* once its memory is protected: the question has the keeper's environment, with its secrets."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    descriptor = process.stdout.fileno()
    if not _readable(descriptor, seconds):
        raise subprocess.TimeoutExpired(process.args, seconds)
    protected = os.read(descriptor, len(_PROTECTED)) == _PROTECTED
    return process.communicate(question if protected else b"", timeout=seconds)[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select(2) refuses descriptors above 1024
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _not_started(error: OSError) -> ConfigurationNotRead:
    return ConfigurationNotRead(f"the process that reads the configuration can't be started: {error.strerror}")


def _unanswered(seconds: float) -> ConfigurationNotRead:
    return ConfigurationNotRead(f"the process that reads the configuration did not answer within {seconds:g} s")


def _checked(answer: bytes, code: int) -> Checked:
    if code != 0:
        raise ConfigurationNotRead(f"the process that reads the configuration ended with {code}")
    # S301: of our own code, through a pipe that nobody else has.
    checked, refused = pickle.loads(answer) if answer else (None, {})  # noqa: S301
    if not isinstance(checked, Checked):
        raise ConfigurationNotRead("the process that reads the configuration gave another answer")
    REFUSED_PINS.take(refused)
    return checked


def _answer_and_exit(descriptor: int, path: Path | None, *, cwd: Path, checks: Checks) -> NoReturn:
    code = 1
    try:
        end_with_parent()
        # Terminals send these to all processes: the keeper decides, and reads a whole answer or none.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        gc.disable()
        from proxy.checks.offline import checked  # noqa: PLC0415 - pydantic and validation are below them
        from proxy.settings.load import load  # noqa: PLC0415

        answer = _pickled(checked(load(path, environ=os.environ, cwd=cwd), checks))
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(answer)
        code = 0
    except Exception as error:  # noqa: BLE001 - the last resort, which must not print a foreign exception's text
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n")
        sys.stderr.flush()
    finally:
        # Not sys.exit: a fork must neither run the keeper's handlers nor write its buffers.
        os._exit(code)


def _pickled(checked: Checked) -> bytes:
    """Return *checked* with its secrets, which elsewhere can't be pickled, and the PINs that were refused."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {Secret: _reduced}
    pickler.dump((checked, REFUSED_PINS.state()))
    return file.getvalue()


def _reduced(secret: Secret) -> tuple[type[Secret], tuple[str]]:
    return Secret, (secret.reveal(),)


def answer() -> NoReturn:
    """Answer the question on stdin, in a new interpreter: see `_CHILD`."""
    descriptor = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not be in the answer
    os.write(descriptor, _PROTECTED)
    asked = json.load(sys.stdin.buffer)
    # Not only for the settings: programs and modules that hold keys inherit it.
    os.environ.clear()
    os.environ.update(asked["environ"])
    REFUSED_PINS.take(asked["refused_pins"])
    checks = Checks(**asked["checks"] | {"users": tuple(asked["checks"]["users"])})
    _answer_and_exit(descriptor, Path(asked["path"]), cwd=Path(asked["cwd"]), checks=checks)
