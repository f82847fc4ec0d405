"""The interpreter and what is installed in it."""

import platform
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec

from proxy import __version__
from proxy.checks.machine.line import Line, error, warning
from proxy.hot_path import compiled, outdated
from proxy.settings.extras import installation

# The module that each extra brings.
_EXTRAS = {"postgres": "asyncpg", "redis": "redis", "otel": "opentelemetry", "pkcs11": "pkcs11"}
_SPEED = ("uvloop", "orjson")
# CVE-2024-12254: asyncio's loop holds an upload in memory without a bound.
_UNBOUNDED = (((3, 12, 0), (3, 12, 8)), ((3, 13, 0), (3, 13, 1)))
_RECOMPILE = "install payproxy again from its source folder with PAYPROXY_COMPILE=1 (it needs gcc and Python's headers)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The facts: *installed* are the names of modules of the extras; *outdated* modules don't fit their source."""

    payproxy: str
    python: tuple[int, int, int]
    openssl: str = ssl.OPENSSL_VERSION
    kernel: str = ""
    compiled: bool = True
    outdated: tuple[str, ...] = ()
    installed: frozenset[str] = field(default_factory=frozenset)


def this_runtime() -> Runtime:
    """Return the facts about this process."""
    return Runtime(
        payproxy=__version__,
        python=sys.version_info[:3],
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        compiled=compiled(),
        outdated=tuple(outdated()),
        installed=frozenset(name for name in (*_EXTRAS.values(), *_SPEED) if find_spec(name) is not None),
    )


def runtime_lines(runtime: Runtime) -> Iterator[Line]:
    """Yield versions, compiled or not, the event loop and the extras."""
    python = ".".join(map(str, runtime.python))
    shown = f"payproxy {runtime.payproxy}, Python {python}, {runtime.openssl}, {runtime.kernel}"
    uvloop = "uvloop" in runtime.installed
    if any(first <= runtime.python <= last for first, last in _UNBOUNDED) and not uvloop:
        what = f"{shown}: this Python holds uploads in memory without a bound (CVE-2024-12254)"
        yield warning("versions", what, f"install a newer patch release of Python, or uvloop: {installation('speed')}")
    else:
        yield Line(check="versions", what=shown)
    if runtime.outdated:
        what = f"compiled modules don't fit their sources: {', '.join(runtime.outdated[:3])}"
        yield error("compiled", what, _RECOMPILE)
    elif not runtime.compiled:
        yield warning("compiled", "not compiled: correct, but each request takes more CPU", _RECOMPILE)
    else:
        yield Line(check="compiled", what="the modules that every request passes through are machine code")
    missing = [name for name in _SPEED if name not in runtime.installed]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: slower"
        yield warning("event loop", what, installation("speed"))
    else:
        yield Line(check="event loop", what="uvloop, and orjson for records")
    there = [extra for extra, module in _EXTRAS.items() if module in runtime.installed]
    without = [extra for extra in _EXTRAS if extra not in there]
    what = f"installed: {', '.join(there) or 'none'}"
    yield Line(check="extras", what=f"{what}; not installed: {', '.join(without)}" if without else what)
