from dataclasses import replace

import pytest

from proxy.checks.machine.line import Line, Status
from proxy.checks.machine.runtime import Runtime, runtime_lines, this_runtime

RIGHT = Runtime(
    payproxy="0.1.0",
    python=(3, 12, 9),
    installed=frozenset({"uvloop", "orjson", "redis", "asyncpg", "opentelemetry", "pkcs11"}),
)


def lines(runtime: Runtime) -> dict[str, Line]:
    """Return the lines by their subject."""
    return {line.check: line for line in runtime_lines(runtime)}


def test_a_right_installation() -> None:
    """Nothing is to mend, and each part is named; this process's own facts can be told too."""
    found = lines(RIGHT)
    assert list(found) == ["versions", "compiled", "event loop", "extras"]
    assert {line.status for line in found.values()} == {Status.OK}
    assert list(lines(this_runtime())) == list(found)


@pytest.mark.parametrize(
    ("changes", "check", "status", "words"),
    [
        ({"compiled": False}, "compiled", Status.WARNING, "PAYPROXY_COMPILE=1"),
        ({"outdated": ("proxy/x.py",)}, "compiled", Status.ERROR, "PAYPROXY_COMPILE=1"),
        ({"installed": frozenset()}, "event loop", Status.WARNING, "uvloop"),
        ({"python": (3, 12, 8), "installed": frozenset()}, "versions", Status.WARNING, "newer patch release"),
    ],
)
def test_what_is_wrong_with_it(changes: dict[str, object], check: str, status: Status, words: str) -> None:
    """Each has the way to mend it."""
    line = lines(replace(RIGHT, **changes))[check]  # type: ignore[arg-type]
    assert (line.status, words in line.fix) == (status, True), line


def test_the_python_with_the_fault_is_right_with_uvloop() -> None:
    """CVE-2024-12254 is one of asyncio's own loop."""
    assert lines(replace(RIGHT, python=(3, 12, 8)))["versions"].status is Status.OK
