"""A Python whose wall clock is off by some seconds, in it and in every Python that it starts; monotonic time is right.

By Debian's libfaketime, which stands in for the C library's clock_gettime. The keeper starts its workers with
`sys.executable` and an environment of its own, so the interpreter itself is a script that loads the library.
"""

import sys
from pathlib import Path

import pytest

_SCRIPT = """\
#!/bin/bash
export LD_PRELOAD={library} FAKETIME={seconds:+g} FAKETIME_DONT_FAKE_MONOTONIC=1
exec -a "$0" {python} "$@"
"""


def python_with_clock(directory: Path, *, seconds: float) -> str:
    """Make a virtual environment like ours in *directory* whose Python is *seconds* ahead, and return its path."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    ours, made = Path(sys.prefix), directory / "other-clock"
    (made / "bin").mkdir(parents=True)
    for shared in ("lib", "pyvenv.cfg"):
        if (ours / shared).exists():
            (made / shared).symlink_to(ours / shared)
    python = made / "bin" / "python"
    python.write_text(_SCRIPT.format(library=library, seconds=seconds, python=sys.executable))
    python.chmod(0o755)
    return str(python)
