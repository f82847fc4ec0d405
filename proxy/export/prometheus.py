"""Alerting rules for Prometheus, as a file of rules."""

from collections.abc import Iterator

from proxy.export.alert import Alert, duration
from proxy.export.alerts import alerts
from proxy.settings.model import Settings

# The page with a section for each alert, as in this repository.
RUNBOOK = "docs/operations.md"


def prometheus(settings: Settings, *, runbook: str = RUNBOOK) -> str:
    """Return the rules for *settings* as YAML; *runbook* is where operations.md can be read, an address or a path."""
    rules = "\n".join("\n".join(_rule(alert, settings.environment, runbook)) for alert in alerts(settings))
    return (
        f"# Alerts for payproxy in {settings.environment}: printed by `payproxy export prometheus`, which reads the\n"
        "# configuration; each alert has a section in docs/operations.md. Checked with `promtool check rules`.\n"
        f"groups:\n  - name: payproxy-{settings.environment}\n    rules:\n{rules}\n"
    )


def _rule(alert: Alert, environment: str, runbook: str) -> Iterator[str]:
    yield f"      - alert: {alert.name}"
    yield from _block("        expr", alert.expr)
    if alert.seconds:
        yield f"        for: {duration(alert.seconds)}"
    yield f"        labels: {{severity: {alert.severity}, environment: {environment}}}"
    yield "        annotations:"
    yield from _block("          summary", alert.summary)
    yield from _block("          description", alert.description)
    yield f"          runbook_url: {runbook}#{alert.name.lower()}"


def _block(key: str, text: str) -> Iterator[str]:
    """Yield *text* as a YAML block, in which no character needs escaping."""
    yield f"{key}: |-"
    indent = " " * (len(key) - len(key.lstrip()) + 2)
    yield from (f"{indent}{line}" for line in text.split("\n"))
