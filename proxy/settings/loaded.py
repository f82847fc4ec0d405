"""What comes of a configuration file and the other sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.settings.findings import Finding, Positions, Severity
from proxy.settings.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The result of loading.

    *settings* is None if there are errors. *readable* has the valid keys in any case (None if not even the file could
    be read): for further checks, never to run with. *sources* maps each dotted key (rules numbered from 0:
    routes.0.path) to the origin of its value. *path* is absolute.
    """

    settings: Settings | None
    findings: tuple[Finding, ...]
    sources: Mapping[str, str]
    path: Path
    readable: Settings | None
    positions: Positions

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that stop `serve`."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)
