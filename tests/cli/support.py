"""The command line as users type it, in this process or as one of its own, without the developer's environment."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from proxy.cli import main

PAYPROXY = Path(sys.executable).with_name("payproxy")


def environment(**variables: str) -> dict[str, str]:
    """Return the environment for a command: a PATH, and what the test adds."""
    return {"PATH": os.environ["PATH"], **variables}


def run(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `payproxy` in *cwd*, in this process: 0.3 s less than a process, with the same environment and output."""
    variables = {**dict.fromkeys(os.environ), **environment(), **(env or {})}
    with contextlib.chdir(cwd), CliRunner().isolation(env=variables) as (out, err, _):
        code = main.run(list(map(str, arguments)))
        sys.stdout.flush()
        sys.stderr.flush()
        return subprocess.CompletedProcess(arguments, code, out.getvalue().decode(), err.getvalue().decode())


def run_process(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `payproxy` as a process in *cwd* and return how it ended."""
    return subprocess.run(
        [PAYPROXY, *arguments],
        cwd=cwd,
        env=environment() | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
