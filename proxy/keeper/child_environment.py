"""The environment that the keeper's processes start with: none of its variables that could hold a secret."""

import os
from pathlib import Path

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG")


def child_environment() -> dict[str, str]:
    """Return what a new interpreter needs; execve makes it readable for the user's other processes (proc(5))."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # PYTHONPATH: the package is found from any working directory, installed or not.
    return kept | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}
