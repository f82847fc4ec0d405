"""The configuration of this instance as the console reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.routing.explanation import Question
from proxy.routing.table import RouteTable
from proxy.settings.findings import Finding, Key
from proxy.settings.worker_values import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationView:
    """What is in force, and what the file says now.

    *settings* are the values in force by key, secrets masked; *sources* where each comes from, by dotted key, as
    `payproxy config show --sources` has both; *defaults* are those of the keys that have one. *waiting* are the values
    of the file that are not in force, by dotted key (None: the file has this key no more). *findings* are those of
    `payproxy check`.
    """

    file: str
    settings: Mapping[str, Any]
    defaults: Mapping[Key, Any]
    sources: Mapping[str, str]
    waiting: Mapping[str, Any]
    findings: tuple[Finding, ...]


class ConfigurationInForce(Protocol):
    """What the console reads of the configuration. Every method may be called in any thread."""

    def snapshot(self) -> Snapshot:
        """Return the plain values that workers have."""

    def table(self) -> RouteTable:
        """Return the rules, compiled once for each reload."""

    def settings(self) -> dict[str, Any]:
        """Return the values in force by key, secrets masked."""

    def explain(self, question: Question) -> dict[str, Any]:
        """Return what `payproxy explain` prints."""

    def view(self) -> ConfigurationView:
        """Read the file again, and the files that it names; return all that the page shows."""
