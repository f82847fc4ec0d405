"""Metric families from plain tables, and the keeper's own state at one instant as such families."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from proxy.telemetry import health
from proxy.telemetry.counters import Row
from proxy.telemetry.status import Status

# The values of a metric's labels.
Key = tuple[str, ...]


def histogram(
    name: str, documentation: str, labels: Sequence[str], table: Mapping[Key, Row], bounds: Sequence[float]
) -> Metric:
    """Return a histogram; the last element of a row is the sum of the observed values, the others are its buckets."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    edges = [*map(str, bounds), "+Inf"]
    for key, row in table.items():
        family.add_metric(key, list(zip(edges, accumulate(row[:-1]), strict=True)), sum_value=row[-1])
    return family


def counter(name: str, documentation: str, labels: Sequence[str], table: Mapping[Key, Sequence[float]]) -> Metric:
    """Return a counter; *name* has no _total suffix."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, row in table.items():
        family.add_metric(key, row[0])
    return family


def gauge(name: str, documentation: str, labels: Sequence[str], values: Mapping[Key, float]) -> Metric:
    """Return a gauge."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauges(status: Status) -> Iterator[Metric]:
    """Yield the metrics of *status*."""
    ready: dict[Key, float] = {(): int(health.holds(health.ready(status)))}
    yield gauge("payproxy_ready", "1 if /readyz says that requests can be served, else 0.", (), ready)
    # During a reload an old and a new worker share a number: their values add up, and either may be out of descriptors.
    in_flight, connections, paused = Counter[Key](), Counter[Key](), Counter[Key]()
    for worker in status.workers:
        number = (str(worker.worker),)
        in_flight[number] += worker.in_flight
        connections[number] += worker.connections
        paused[number] |= worker.full
    text = "Requests of callers that are being served, as the worker said a second ago at most."
    yield gauge("payproxy_requests_in_flight", text, ("worker",), in_flight)
    yield gauge("payproxy_connections", "Open connections of callers.", ("worker",), connections)
    text = "1 if new callers had to wait, since the worker has no file descriptor for them, else 0."
    yield gauge("payproxy_accept_paused", text, ("worker",), paused)
    # A file may hold several certificates of one use, as a chain does: the earliest expiry counts.
    ends: dict[Key, float] = {
        (one.name, one.use): one.expires for one in sorted(status.certificates, key=lambda one: -one.expires)
    }
    text = "When a certificate in use ends, epoch seconds."
    yield gauge("payproxy_certificate_expiry_timestamp_seconds", text, ("name", "use"), ends)
    text = "Records in the journal that a sink has not taken yet."
    yield gauge("payproxy_journal_backlog_records", text, (), {(): status.journal_backlog})
    dropped: dict[Key, Row] = {(sink,): [count] for sink, count in status.log_dropped.items()}
    yield counter("payproxy_log_dropped", "Records that a sink never got.", ("sink",), dropped)
    taking: dict[Key, float] = {(sink.name,): int(not sink.failing) for sink in status.sinks}
    text = "1 if a sink takes records, 0 if it refused those that it was offered last."
    yield gauge("payproxy_log_sink_available", text, ("sink",), taking)
    sharing: dict[Key, float] = {(): int(not status.sharing_problem)} if status.shares_tokens else {}
    yield gauge("payproxy_token_sharing_available", "1 if replicas share tokens as configured, else 0.", (), sharing)
    text = "Retry pins that hold: requests whose outcome is not certain, which a retry follows to its side."
    pins: dict[Key, float] = {(one.name,): one.retry_pins for one in status.migrations}
    yield gauge("payproxy_migration_retry_pins", text, ("migration",), pins)
    text = "Share of a migration that is on the modern side, 0 to 1."
    weights: dict[Key, float] = {(one.name,): one.weight / 100 for one in status.migrations}
    yield gauge("payproxy_migration_weight_ratio", text, ("migration",), weights)
    text = "1 if the configuration read last is in force, 0 if it was refused."
    yield gauge("payproxy_config_last_reload_successful", text, (), {(): int(not status.reload_problem)})
    build = {"version": status.version, "python": platform.python_version()}
    build |= {"environment": status.environment, "instance": status.instance}
    yield InfoMetricFamily("payproxy_build", "The version that runs.", value=build)
