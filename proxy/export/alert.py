"""One alerting rule of Prometheus."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule; several of one name differ in severity.

    It fires once *expr* (PromQL) has had a result for *seconds*. *summary* holds for all its instances; *description*
    is a Go template with the labels and the value.
    """

    name: str
    severity: Severity
    expr: str
    seconds: int = 0
    summary: str
    description: str


def duration(seconds: int) -> str:
    """Return *seconds* as PromQL writes them."""
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
