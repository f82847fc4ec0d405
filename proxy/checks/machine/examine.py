"""All lines of `payproxy doctor`, in the order in which a person mends them."""

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from proxy.checks.machine.disk import directory_lines, file_system_line, latency_line, space_line, write_times
from proxy.checks.machine.line import Line, Status, skipped
from proxy.checks.machine.manager import manager_lines, unit_properties
from proxy.checks.machine.network import egress_line, network_lines, proxy_variable
from proxy.checks.machine.process import (
    address_line,
    cpu_lines,
    kernel_clock,
    kernel_clock_line,
    open_files_line,
    user_line,
)
from proxy.checks.machine.runtime import runtime_lines, this_runtime
from proxy.clock import Clock
from proxy.settings.findings import Finding
from proxy.settings.model import RequestLogSection, ServerSection, Settings
from proxy.settings.sources import DEFAULT_DATA_DIRECTORY

_MOUNTS = Path("/proc/self/mounts")


async def examine(
    settings: Settings | None,
    findings: Iterable[Finding],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    clock: Clock,
    running: bool,
    online: bool,
) -> list[Line]:
    """Return what is right and wrong with this machine for *settings*, what can be read of the file, or None.

    *findings* are those of `payproxy check`. *running*: an instance with this data directory is up. Without *online*
    nothing is sent. Never raises.
    """
    server, log = (settings.server, settings.request_log) if settings else (ServerSection(), RequestLogSection())
    upstreams = settings.upstreams.values() if settings else ()
    connections = server.max_requests + sum(one.max_connections for one in upstreams)
    lines = [*runtime_lines(this_runtime()), *map(finding_line, findings), user_line(os.geteuid())]
    data = Path(settings.data_directory) if settings else _default_directory(cwd, environ)
    lines += _disk(data, spool_bytes=log.spool_bytes, clock=clock)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    lines.append(open_files_line(hard, connections=connections, infinity=resource.RLIM_INFINITY))
    lines += cpu_lines(Path("/"), workers=server.workers)
    lines.append(address_line("server.listen", server.listen, running=running))
    if settings and settings.admin.listen:
        lines.append(address_line("admin.listen", settings.admin.listen, running=running))
    lines += manager_lines(unit_properties(), environ, exchange_timeout=server.exchange_timeout)
    lines.append(kernel_clock_line(kernel_clock()))
    return [*lines, *await _network(settings, clock=clock, environ=environ, online=online)]


def finding_line(finding: Finding) -> Line:
    """Return a finding of `payproxy check` as a line."""
    where = f"{finding.file}:{finding.line}" if finding.line else finding.file
    about = f"{finding.key}: " if finding.key else ""
    status = Status(finding.severity.value)
    return Line(check="configuration", status=status, what=f"{where}: {about}{finding.what}", fix=finding.fix)


def _default_directory(cwd: Path, environ: Mapping[str, str]) -> Path:
    return cwd / (environ.get("STATE_DIRECTORY", "").partition(":")[0] or DEFAULT_DATA_DIRECTORY)


def _disk(data: Path, *, spool_bytes: int, clock: Clock) -> Iterator[Line]:
    yield from directory_lines(data, us=os.geteuid())
    try:
        yield file_system_line(data, _MOUNTS.read_text(errors="replace"))
        yield space_line(data, spool_bytes=spool_bytes)
        yield latency_line(write_times(data, clock))
    except OSError as failure:
        yield skipped("disk latency", f"nothing could be written for {data} ({failure.strerror})")


async def _network(settings: Settings | None, *, clock: Clock, environ: Mapping[str, str], online: bool) -> list[Line]:
    found, variable = [], proxy_variable(environ)
    if settings is None or not settings.credentials:
        found.append(skipped("network", "no configuration names a server"))
    elif not online:
        found.append(skipped("network", "nothing was sent, by --offline or because the configuration has errors"))
    else:
        found += await network_lines(settings, clock=clock, environ=environ)
    blocked = any(one.status is Status.ERROR for one in found)
    return [*found, egress_line(variable, settings, blocked=blocked)]
