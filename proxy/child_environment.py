"""The environment that our processes start their own new interpreters with."""

import os
from pathlib import Path
from typing import Final

_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PYTHONDEVMODE",
    "PYTHONASYNCIODEBUG",
)
# Where this package is found from any working directory, installed or not.
PACKAGE_PATH: Final = {"PYTHONPATH": str(Path(__file__).parent.parent)}


def child_environment() -> dict[str, str]:
    """Return what a new interpreter of the keeper needs, without any variable that could hold a secret.

    execve makes it readable for the user's other processes (proc(5)).
    """
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | PACKAGE_PATH
