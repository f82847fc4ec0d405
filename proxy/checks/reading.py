"""What is asked for when the configuration is read, and what comes of it; without pydantic, which reads it."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.settings.findings import Finding
from proxy.settings.loaded import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What `proxy.checks.offline.check_loaded` is to look at; *now* is in epoch seconds."""

    now: float
    container: bool = False
    users: tuple[str, ...] = ()
    devices: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A configuration, and the findings about it and about the files that it names."""

    loaded: Loaded
    findings: tuple[Finding, ...]


Read = Callable[[Checks], Checked]
"""Reads the configuration and checks it."""
