"""Reads and checks the configuration in a process of its own, which ends at once.

pydantic and what else only validation needs would be 11 MB of the keeper for as long as it runs (decision 0037). The
answer comes through a pipe: it has the secrets of the configuration.
"""

import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from proxy.checks.reading import Checked, Checks
from proxy.memory_protection import protect_memory
from proxy.secret import Secret


class ConfigurationNotRead(Exception):
    """The process that reads the configuration ended without an answer; a defect is told on its stderr."""


def read_in_fork(path: Path | None, *, cwd: Path, checks: Checks) -> Checked:
    """Read the configuration at the start, while this process has one thread; raises ConfigurationNotRead.

    The copy of this process has imported already what both need: a new interpreter would take 0.15 s of CPU more.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _answer_and_exit(theirs, path, cwd=cwd, checks=checks)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return _checked(answer, os.waitstatus_to_exitcode(status))


def read_in_new_process(path: Path, *, cwd: Path, checks: Checks) -> Checked:
    """Read the configuration while this process has threads, which can't be forked; raises ConfigurationNotRead."""
    ours, theirs = os.pipe()
    question = json.dumps({"path": str(path), "cwd": str(cwd), "checks": asdict(checks)})
    command = (sys.executable, "-P", "-m", __name__, str(theirs), question)
    with os.fdopen(ours, "rb") as pipe:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs,))  # noqa: S603 - this module
        except OSError as error:
            raise ConfigurationNotRead(f"its process can't be started: {error.strerror}") from None
        finally:
            os.close(theirs)
        with process:
            answer = pipe.read()
    return _checked(answer, process.returncode)


def _checked(answer: bytes, code: int) -> Checked:
    if code != 0:
        raise ConfigurationNotRead(f"the process that reads the configuration ended with {code}")
    checked = pickle.loads(answer)  # noqa: S301 - of our own code, through a pipe that nobody else has
    if not isinstance(checked, Checked):
        raise ConfigurationNotRead("the process that reads the configuration gave another answer")
    return checked


def _answer_and_exit(descriptor: int, path: Path | None, *, cwd: Path, checks: Checks) -> NoReturn:
    code = 1
    try:
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
    """Return *checked* with its secrets, which elsewhere can't be pickled."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {Secret: _reduced}
    pickler.dump(checked)
    return file.getvalue()


def _reduced(secret: Secret) -> tuple[type[Secret], tuple[str]]:
    return Secret, (secret.reveal(),)


def _main() -> None:
    protect_memory()
    asked = json.loads(sys.argv[2])
    checks = Checks(**asked["checks"] | {"users": tuple(asked["checks"]["users"])})
    _answer_and_exit(int(sys.argv[1]), Path(asked["path"]), cwd=Path(asked["cwd"]), checks=checks)


if __name__ == "__main__":
    _main()
