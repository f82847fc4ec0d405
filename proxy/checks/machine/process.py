"""What the system grants a process of this user: open files, addresses, CPUs; and the kernel's clock."""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from proxy.checks.machine.line import Line, error, skipped, warning
from proxy.private_file import user_name
from proxy.settings.addresses import TcpAddress, UnixAddress, listen_address

_ROOT = 0
# Kept for files of the process itself (docs/operations.md, Capacity).
_RESERVE = 64
# adjtimex(2): the clock is not synchronised.
_TIME_ERROR = 5
_TIMEX_BYTES = 512


def user_line(us: int) -> Line:
    """Return a warning if this is root, whose rights and limits are not those of the service."""
    if us == _ROOT:
        what = "this is root: what follows is true of root, not of the user that the service runs as"
        fix = "run it as that user: `runuser -u USER -- payproxy doctor`; in a unit or a pod give payproxy a user"
        return warning("user", what, fix)
    return Line(check="user", what=user_name(us))


def open_files_line(hard: int, *, connections: int, infinity: int) -> Line:
    """Return whether the *hard* limit of open files leaves room for *connections* of a worker."""
    needed = _RESERVE + connections
    if hard not in {infinity, -1} and hard < needed:
        what = f"at most {hard} open files, and a worker may need {needed}"
        fix = "LimitNOFILE=65536 in the unit, `docker run --ulimit nofile=65536`, or /etc/security/limits.d"
        return warning("open files", what, fix)
    return Line(check="open files", what="no limit" if hard in {infinity, -1} else f"at most {hard}")


def kernel_clock() -> int | None:
    """Return what adjtimex(2) says of the kernel's clock, None where it can't be asked."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if adjtimex is None else int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state


def kernel_clock_line(state: int | None) -> Line:
    """Return whether something synchronises the clock; *state* as `kernel_clock` returns it."""
    if state is None:
        return skipped("clock synchronisation", "the kernel does not say whether it is synchronised")
    if state == _TIME_ERROR:
        what = "nothing synchronises this machine's clock, which assertions carry"
        return warning("clock synchronisation", what, "`timedatectl set-ntp true`; in a container: on its host")
    return Line(check="clock synchronisation", what="the kernel's clock is synchronised")


def address_line(check: str, listen: str, *, running: bool) -> Line:
    """Return whether the address *listen* can be bound; *running* says that our instance is up, which may have it."""
    address = listen_address(listen)
    if isinstance(address, UnixAddress):
        return Line(check=check, what=f"{listen} is a Unix socket")
    try:
        _bind(address)
    except OSError as failure:
        return _not_bound(check, address, failure, running=running)
    return Line(check=check, what=f"{listen} is free")


def _bind(address: TcpAddress) -> None:
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
            probe.listen()


def _not_bound(check: str, address: TcpAddress, failure: OSError, *, running: bool) -> Line:
    if failure.errno == errno.EADDRINUSE:
        if running:
            return Line(check=check, what=f"{address} is in use by the running instance")
        what = f"{address} is taken by another program"
        return error(check, what, f"`ss -ltnp 'sport = :{address.port}'` names it; end it, or set another port")
    if failure.errno in {errno.EACCES, errno.EPERM}:
        what = f"this user may not bind {address}: ports below 1024 are root's"
        return error(check, what, "set a port from 1024 on, or use the unit that `payproxy export systemd` prints")
    return error(check, f"{address} can't be bound ({failure.strerror})", "name an address that this machine has")


def cpu_lines(root: Path, *, workers: int) -> Iterator[Line]:
    """Yield whether a CPU limit (cgroup v2, under *root*) fits the number of *workers*, 0 for one per core."""
    cores = os.cpu_count() or 1
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()[:2]
        granted = cores if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        granted = cores
    wanted = workers or cores
    if wanted > max(1, round(granted)):
        what = f"{wanted} workers share {granted:g} CPUs: they are throttled together"
        yield warning("CPU", what, f"set server.workers = {max(1, round(granted))}, or raise the limit")
    else:
        yield Line(check="CPU", what=f"{granted:g} CPUs, {wanted} {'worker' if wanted == 1 else 'workers'}")
