import socket
from pathlib import Path

import pytest

from proxy.checks.machine.line import Status
from proxy.checks.machine.process import (
    address_line,
    cpu_lines,
    kernel_clock,
    kernel_clock_line,
    open_files_line,
    user_line,
)


@pytest.mark.parametrize(("hard", "status"), [(1343, Status.WARNING), (1344, Status.OK), (-1, Status.OK)])
def test_open_files(hard: int, status: Status) -> None:
    """A worker needs its connections and 64 more; -1 is no limit."""
    line = open_files_line(hard, connections=1280, infinity=-1)
    assert (line.status, "ulimit" in line.fix) == (status, status is Status.WARNING)


def test_the_kernels_clock() -> None:
    """adjtimex(2) answers everywhere; 5 is TIME_ERROR."""
    assert kernel_clock() is not None
    assert kernel_clock_line(0).status is Status.OK
    assert "timedatectl" in kernel_clock_line(5).fix
    assert kernel_clock_line(None).status is Status.SKIPPED


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address(host: str) -> None:
    """Free, taken by another program, or by our own instance; another machine's can't be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), 0), family=family) as other:
        listen = f"{host}:{other.getsockname()[1]}"
        taken = address_line("server.listen", listen, running=False)
        ours = address_line("server.listen", listen, running=True)
    assert (taken.status, "ss -ltnp" in taken.fix) == (Status.ERROR, True)
    assert ours.status is Status.OK
    assert address_line("server.listen", f"{host}:0", running=False).status is Status.OK
    assert address_line("server.listen", "192.0.2.1:8080", running=False).status is Status.ERROR
    assert address_line("server.listen", "unix:/run/x", running=False).status is Status.OK


@pytest.mark.parametrize(
    ("limit", "workers", "fix"),
    [("200000 100000", 2, ""), ("200000 100000", 3, "server.workers = 2"), ("50000 100000", 2, "server.workers = 1"),
     ("max 100000", 1, ""), ("nonsense", 1, "")],
)  # fmt: skip
def test_a_cpu_limit(tmp_path: Path, limit: str, workers: int, fix: str) -> None:
    """More workers than the cgroup grants CPUs are throttled together."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(limit)
    (line,) = cpu_lines(tmp_path, workers=workers)
    assert fix in line.fix
    assert bool(line.fix) is bool(fix)


def test_root_is_not_the_service() -> None:
    """What is true of root need not be true of the user that the service runs as."""
    assert user_line(0).status is Status.WARNING
    assert user_line(54321).status is Status.OK
