"""How much of the tests runs: a part that is over soon, or with PAYPROXY_TESTS=all everything, as CI does."""

import asyncio
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

ALL = os.environ.get("PAYPROXY_TESTS") == "all"

# Whole processes, for minutes: of these only the ones that a change is most likely to break.
_LONG = ("tests/journeys/", "tests/upstream/test_fuzz.py", "tests/worker/test_fuzz.py")
_SHORT = (
    *("test_broken_configuration", "test_drain", "test_first_call", "test_keys_stay_with_the_keeper"),
    *("test_killed_in_between", "test_migration_endpoint", "test_never_twice_restarted", "test_token_endpoint"),
)

# What the tests meet as real peers; without one its tests are skipped.
_PEERS = (
    *("gcc", "openssl", "curl", "wget", "node", "javac", "nginx", "wrk", "strace", "redis-server"),
    *("prometheus", "promtool"),
    *("haproxy", "faketime", "helm", "setfacl", "softhsm2-util"),
)
_POSTGRESQL = "usr/lib/postgresql/*/bin/initdb"


def loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loops on which each test of a package runs: uvloop where it is installed, asyncio's otherwise.

    Both where everything runs.
    """
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415 - an extra: the proxy is correct without it

        if not ALL:
            loops.clear()

        class Loop(uvloop.Loop):
            """Closes all handles before a warning about one that a test left open becomes an error.

            Raised in the middle of closing, that error would make `close` wait forever for the handle.
            """

            def close(self) -> None:
                """Close the loop, then warn."""
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", ResourceWarning)
                    super().close()
                for warning in caught:
                    warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

        loops["uvloop"] = Loop
    return loops


def is_thorough(path: Path) -> bool:
    """Return whether the tests in *path* run only where everything does."""
    return any(part in path.as_posix() for part in _LONG) and path.stem not in _SHORT


def header() -> str:
    """Return what a run begins with: how long it takes, and which programs are missing."""
    missing = [name for name in _PEERS if shutil.which(name) is None]
    if not any(Path("/").glob(_POSTGRESQL)):
        missing.append("postgresql")
    extent = (
        "everything: some 20 minutes on two cores"
        if ALL
        else "some four minutes on two cores; PAYPROXY_TESTS=all runs both event loops, all examples, the fuzzers "
        "and the long journeys too"
    )
    return f"payproxy: {extent}\nnot installed, so skipped where needed: {', '.join(missing) or 'nothing'}"
