"""The real command as a process, with an environment that holds nothing of the developer's own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PAYPROXY = Path(sys.executable).with_name("payproxy")


def environment(**variables: str) -> dict[str, str]:
    """Return the environment for a command: a PATH, and what the test adds."""
    return {"PATH": os.environ["PATH"], **variables}


def run(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `payproxy` with *arguments* in *cwd* and return what came of it."""
    return subprocess.run(
        [PAYPROXY, *arguments],
        cwd=cwd,
        env=environment() | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
