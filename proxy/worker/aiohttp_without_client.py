"""aiohttp without its client, which a worker never uses: 2.5 MB of memory and a seventh of the CPU of a start less.

The package's `__init__` imports the client, so it is not run: the package is put among the imported modules as it is
found, and its other modules are then imported one by one as always. The entry point imports this module before any
other that imports aiohttp.
"""

import importlib.util
import sys


def _put_package() -> None:
    spec = importlib.util.find_spec("aiohttp")
    if spec is not None:
        package = importlib.util.module_from_spec(spec)
        package.__dict__["__version__"] = ""  # aiohttp.http wants one for its Server header, which is never sent
        sys.modules["aiohttp"] = package


_put_package()
