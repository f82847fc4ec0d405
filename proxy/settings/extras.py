"""How to install what an optional part needs, without naming our own distribution to an index, where it is not ours."""

import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires


def installation(extra: str) -> str:
    """Return the advice to install what *extra* brings into the environment that runs: "run `python -m pip ...`"."""
    try:
        declared = requires("payproxy") or []
    except PackageNotFoundError:  # run from its sources, without being installed
        declared = []
    belongs = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    needed = [name.strip() for name, _, marker in (line.partition(";") for line in declared) if belongs.search(marker)]
    if not needed:
        return f"install it from its source folder with the [{extra}] extra: `pip install '.[{extra}]'`"
    return f"run `{shlex.join([sys.executable, '-m', 'pip', 'install', *needed])}`"
