"""Imports aiohttp without what nobody here uses of it: 35 ms of CPU and 3 MB of memory less in each process.

When aiohttp is imported, it reads the system's CA certificates into two contexts (26 ms, 2 MB). payproxy passes a
context of its own for each connection (`proxy.upstream.tls`); with theirs, now empty, every verification would fail.
Its lists of callbacks, which no request uses, are the pure Python ones: those in C load libstdc++ (1 MB).

A process imports this module before any other that imports aiohttp.
"""

import os
import ssl

_PURE_PYTHON_LISTS = "FROZENLIST_NO_EXTENSIONS"


def _import_aiohttp() -> None:
    read_authorities = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment, method-assign]
    os.environ[_PURE_PYTHON_LISTS] = "1"
    try:
        import aiohttp  # noqa: F401, PLC0415 - this is what the module is for
    finally:
        ssl.SSLContext.set_default_verify_paths = read_authorities  # type: ignore[method-assign]
        del os.environ[_PURE_PYTHON_LISTS]


_import_aiohttp()
