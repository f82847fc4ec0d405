"""A real Prometheus scrapes an instance: each rule is evaluated, each question of the dashboard has an answer."""

import asyncio
import contextlib
import json
import re
import shutil
import urllib.parse
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.demo import _free_port, _make_pair, _write
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.export.alerts import alerts
from proxy.export.panels import rows
from proxy.export.prometheus import prometheus
from proxy.settings.load import load
from proxy.settings.model import Settings
from proxy.simulator.faults import FaultKind
from proxy.simulator.server import Bank, simulator
from tests.export.support import promtool
from tests.journeys.caller import Address, Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.migrated import migration
from tests.journeys.process import Instance
from tests.journeys.waiting import until

CONFIGURATION = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: payproxy
    static_configs: [{{targets: ["{target}"]}}]
"""
_INCREASED = 'increase(http_server_request_duration_seconds_count{http_response_status_code="404"}[5m]) > 0'
# What Grafana puts in place of its variables; the window holds what the test sends.
VARIABLES = {"$instance": ".+", "$route": ".*", "$__rate_interval": "5m", "$__range": "1h", "$environment": ".*"}


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def ask(self, path: str) -> Any:
        """Return the data of an answer of its API."""
        answer = (await get(self._address, f"/api/v1/{path}")).json
        assert answer["status"] == "success", answer
        return answer["data"]

    async def labels(self, expr: str) -> list[dict[str, str]]:
        """Return the labels of each series that answers *expr*."""
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        found = await self.ask(f"query?query={urllib.parse.quote(expr)}")
        return [series["metric"] for series in found["result"]]


@contextlib.asynccontextmanager
async def running(directory: Path, target: Address, rules: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus on loopback while the block lasts."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    (directory / "rules.yaml").write_text(rules)
    (directory / "prometheus.yaml").write_text(CONFIGURATION.format(target=f"{target[0]}:{target[1]}"))
    address = ("127.0.0.1", _free_port(0))
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus", f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}", f"--web.listen-address={address[0]}:{address[1]}",
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(address)
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def served(directory: Path, start: Start) -> AsyncIterator[tuple[Instance, Settings, Bank]]:
    """Run the demo's configuration, with half of a migration on the modern side."""
    now = SystemClock().now()
    jwt, adfs = (_make_pair(directory, name, now=now) for name in ("login", "adfs"))
    async with simulator(
        clock=SystemClock(), entropy=SystemEntropy(), jwt_certificate=jwt, adfs_certificate=adfs
    ) as bank:
        configuration = _write(directory, bank, port=0, admin_port=0)
        settings = load(configuration, environ={}, cwd=directory).settings
        assert settings is not None
        instance = await start(configuration)
        code, text = await migration(directory, configuration, "set", "moving", "50", "--reason", "test", "--force")
        assert code == 0, text
        yield instance, settings, bank


async def send_all_kinds(instance: Instance, bank: Bank) -> None:
    """Send requests of which some are refused, sent again, or go to one of two sides."""
    bank.world.faults.set(FaultKind.STATUS, path="/echo", status=500, times=1)
    for number in range(20):
        await ask(instance.address, Request(path="/echo", headers={"X-System": f"erp-{number}"}))
        await ask(instance.address, payment(f"order-{number}"))
    bank.world.tokens.revoke()
    assert (await ask(instance.address, Request())).status == 200
    assert (await get(instance.address, "/nowhere")).status == 404  # the last one that it looks for


def selectors(expr: str) -> list[str]:
    """Return what an alert's expression selects, each with its labels and without its window."""
    return [
        found.group() for found in re.finditer(r"\b(?:payproxy|up\b)[a-z_]*(\{[^}]*\})?", expr) if found.group() != "up"
    ]


@pytest.mark.timeout(600)
async def test_a_real_prometheus_answers_every_question(tmp_path: Path, start: Start) -> None:
    """With the labels of the legend; each rule is evaluated without an error, and nothing fires that should not."""
    async with served(tmp_path, start) as (instance, settings, bank):
        text = (await instance.metrics()).body.decode()
        promtool("check", "metrics", text=text)
        async with running(tmp_path, instance.admin, prometheus(settings)) as server:
            # A histogram's series begins with the first request of its labels: the second is the first to be an
            # increase.
            for seen in ('http_server_request_duration_seconds_count{http_response_status_code="404"}', _INCREASED):
                await send_all_kinds(instance, bank)
                await until(partial(_answers, server, seen), otherwise=f"Prometheus did not see {seen}", within=90)

            for _, panels in rows(settings):
                for panel in panels:
                    for expr, legend in panel.queries:
                        # A scrape that takes too long, as on a busy machine, ends all series until the next.
                        found = await until(
                            partial(server.labels, expr), otherwise=f"{panel.title}: no result of {expr}", within=90
                        )
                        wanted = set(re.findall(r"\{\{(\w+)\}\}", legend))
                        # A label that is empty in each series (of the keeper, say) is none for Prometheus.
                        assert wanted <= set().union(*found), f"{panel.title}: {found[0]}"
            for alert in alerts(settings):
                for selector in selectors(alert.expr):
                    await until(
                        partial(server.labels, selector), otherwise=f"{alert.name}: no series of {selector}", within=90
                    )

            async def evaluated() -> bool:
                [group] = (await server.ask("rules"))["groups"]
                assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}, json.dumps(group, indent=1)
                return all(rule["health"] == "ok" for rule in group["rules"])

            await until(evaluated, otherwise="the rules were not evaluated")
            fired = {one["labels"]["alertname"] for one in (await server.ask("alerts"))["alerts"]}
            # The demo's certificates are of a year, its requests have ended: nothing is wrong.
            assert fired == set()


async def _answers(server: Prometheus, expr: str) -> bool:
    """Return whether Prometheus has started, and *expr* has a result."""
    with contextlib.suppress(OSError, json.JSONDecodeError):
        return bool(await server.labels(expr))
    return False
