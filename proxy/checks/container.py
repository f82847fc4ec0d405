"""What a configuration lacks where it runs in a container."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.settings.addresses import TcpAddress, listen_address
from proxy.settings.findings import Complaint, Severity
from proxy.settings.model import Settings

# Made by Docker, and by Podman and CRI-O.
_MARKS = (".dockerenv", "run/.containerenv")


def in_container(environ: Mapping[str, str], *, pid: int | None = None, root: Path = Path("/")) -> bool:
    """Return whether this is a container's own process: its first, or one in a pod.

    Other processes of a container may be those of a developer, whose callers are in the same one. *pid* is the process
    id, *root* the root directory.
    """
    first = (os.getpid() if pid is None else pid) == 1
    return "KUBERNETES_SERVICE_HOST" in environ or (first and any((root / mark).exists() for mark in _MARKS))


def container_complaints(settings: Settings) -> Iterator[Complaint]:
    """Warn of a listener that nobody outside of the container reaches, and name the keys that have to change.

    It is no error: in a pod, callers in other containers of the same pod do reach it.
    """
    server = settings.server
    address = listen_address(server.listen)
    if not isinstance(address, TcpAddress) or not address.loopback:
        return
    callers = (
        "" if settings.callers or server.allow_anonymous else ", with [callers.NAME] or server.allow_anonymous = true"
    )
    yield Complaint(
        key=("server", "listen"),
        what="this is a container, and only what shares its network (the same pod) reaches a loopback address",
        fix=f'set server.listen = "0.0.0.0:{address.port}"{callers} (server.hosts = ["NAME", ...] restricts the Host); '
        'for probes and scrapes by HTTP admin.listen = "0.0.0.0:9901" and admin.console = false',
        severity=Severity.WARNING,
    )
