"""The dashboard for Grafana, as the JSON that it imports."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from proxy.export.panels import HERE, Panel, rows
from proxy.settings.model import Settings

# Of Grafana 11.6; newer ones convert it when they read it.
_SCHEMA_VERSION = 41
_COLUMNS, _PANEL_WIDTH, _PANEL_HEIGHT = 24, 8, 7
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def grafana(settings: Settings) -> str:
    """Return the dashboard for *settings* as JSON."""
    dashboard = {
        "uid": "payproxy",
        "title": "payproxy",
        "description": "Requests, tokens, migrations and the request log of payproxy.",
        "tags": ["payproxy"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables(settings.environment))},
        "panels": list(_layout(rows(settings))),
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _layout(given: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    """Yield the heading of each row and its panels, three beside each other."""
    number, y = 0, 0
    for title, panels in given:
        number += 1
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        y += 1
        for index, panel in enumerate(panels):
            number += 1
            down, across = divmod(index * _PANEL_WIDTH, _COLUMNS)
            place = {"h": _PANEL_HEIGHT, "w": _PANEL_WIDTH, "x": across, "y": y + down * _PANEL_HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(panel)}
        y += -(-len(panels) * _PANEL_WIDTH // _COLUMNS) * _PANEL_HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["custom"] = {"thresholdsStyle": {"mode": "dashed"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(panel.queries)
        ],
    }


def _variables(environment: str) -> Iterator[dict[str, Any]]:
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    yield _variable("environment", "label_values(payproxy_build_info, environment)") | {
        "current": {"text": environment, "value": environment}
    }
    everything = {"includeAll": True, "multi": True, "current": {"text": ["All"], "value": ["$__all"]}}
    instances = 'label_values(payproxy_build_info{environment="$environment"}, instance)'
    yield _variable("instance", instances) | everything
    # Requests that match no rule have an empty route.
    routes = f"label_values(payproxy_exchanges_total{{{HERE}}}, http_route)"
    yield _variable("route", routes) | everything | {"allValue": ".*"}


def _variable(name: str, query: str) -> dict[str, Any]:
    values = {"query": query, "refId": name}
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": _SOURCE,
        "query": values,
        "refresh": 2,
    }
