"""The dashboard is one that Grafana reads, every panel explains itself, and every metric that is asked for exists."""

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from proxy.export.alerts import alerts
from proxy.export.grafana import grafana
from proxy.export.panels import rows
from tests.export.support import MIGRATING, ROOT, example

# Units of Grafana, of those that it knows: https://github.com/grafana/grafana, packages/grafana-data.
UNITS = {"bool_yes_no", "short", "reqps", "s", "bytes", "percentunit"}


def dashboard(name: str = MIGRATING) -> Any:
    """Return the dashboard for an example of a configuration."""
    return json.loads(grafana(example(name)))


def panels(name: str = MIGRATING) -> list[Any]:
    """Return its panels without the headings of rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def test_grafanas_own_types_have_every_member() -> None:
    """A member that is misspelled would be lost when Grafana's own library reads and writes it."""
    plugins.register_default_plugins()
    given = dashboard()
    assert lost(given, json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(given)))) == []
    given["panels"][1]["targets"][0]["legend"] = given["titel"] = "x"
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(given)))
    assert lost(given, again) == ["/panels/1/targets/0/legend", "/titel"]


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Return where *after*, which may have more, has not what *before* has."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs: Any = ((key, value, after.get(key, KeyError)) for key, value in before.items())
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = ((number, *pair) for number, pair in enumerate(zip(before, after, strict=True)))
    else:
        return [] if before == after else [place]
    return sorted(found for key, one, other in pairs for found in lost(one, other, f"{place}/{key}"))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_explains_itself(panel: Any) -> None:
    """It has a title, one sentence, a unit, and queries with a legend."""
    assert panel["title"]
    assert re.fullmatch(r"[A-Z][^.]*\.", panel["description"].replace("docs/errors.md", "the page"))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert [target["refId"] for target in panel["targets"]] == ["A", "B"][: len(panel["targets"])]
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def test_no_panel_lies_over_another() -> None:
    """Each cell of the grid has one."""
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        here = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & here, panel["title"]
        assert max(x for x, _ in here) < 24
        cells |= here
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_rows_fit_the_configuration() -> None:
    """Without migrations there is no row of theirs; the line in the bank's latency is response_timeout."""
    titles = [title for title, _ in rows(example("production"))]
    assert [title for title, _ in rows(example(MIGRATING)) if title not in titles] == ["Migrations"]
    [bank] = [panel for panel in panels("production") if panel["title"] == "Bank"]
    assert bank["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == 90


def expressions() -> list[str]:
    """Return all expressions of the alerts and the dashboard."""
    settings = example(MIGRATING)
    asked = [expr for _, row in rows(settings) for panel in row for expr, _ in panel.queries]
    return [*asked, *(alert.expr for alert in alerts(settings))]


@pytest.mark.parametrize("expr", expressions())
def test_every_metric_that_is_asked_for_exists(expr: str) -> None:
    """Name and labels are those of the page, which is held to /metrics; up and process_* are Prometheus' own."""
    page = (ROOT / "docs/metrics.md").read_text()
    known = {
        name: set(re.findall(r"[a-z_]+", re.sub(r":[^|]*", "", labels))) | {"job", "instance"}
        for name, labels in re.findall(r"^\| `([a-z_]+)` \| ([^|]*)\|", page, re.MULTILINE)
    }
    asked = re.findall(r"\b((?:payproxy|http_client|http_server|process)_[a-z_]+)\b(?:\{([^}]*)\})?", expr)
    assert asked
    for name, labels in asked:
        if name.startswith("process_"):
            continue
        base = re.sub("_(bucket|count|sum)$", "", name)
        assert base in known, f"{base} is not on docs/metrics.md"
        assert set(re.findall(r"([a-z_]+)(?:=~|!=|!~|=)", labels)) <= known[base]
