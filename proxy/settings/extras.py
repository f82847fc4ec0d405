"""Advice to install optional parts; never names our own distribution, since that name is not ours on an index."""

import re
import shlex
import sys


def installation(extra: str) -> str:
    """Return advice to install the packages of *extra* into the running environment: "run `python -m pip ...`"."""
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - 0.7 MB that a keeper needs never

    try:
        declared = requires("payproxy") or []
    except PackageNotFoundError:  # run from its sources, not installed
        declared = []
    belongs = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    needed = [name.strip() for name, _, marker in (line.partition(";") for line in declared) if belongs.search(marker)]
    if not needed:
        return f"install it from its source folder with the [{extra}] extra: `pip install '.[{extra}]'`"
    return f"run `{shlex.join([sys.executable, '-m', 'pip', 'install', *needed])}`"
