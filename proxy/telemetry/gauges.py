"""The keeper's own state at one instant, as metrics."""

import platform
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import InfoMetricFamily, Metric

from proxy.telemetry import health
from proxy.telemetry.families import Key, counter, gauge
from proxy.telemetry.status import Status


def gauges(status: Status) -> Iterator[Metric]:
    """Yield the metrics of *status*."""
    yield from _readiness(status)
    ends: dict[Key, float] = {}
    for certificate in status.certificates:
        # A file may hold several certificates of one use, as a chain does: the earliest expiry counts.
        key = (certificate.name, certificate.use)
        ends[key] = min(certificate.expires, ends.get(key, certificate.expires))
    yield gauge(
        "payproxy_certificate_expiry_timestamp_seconds",
        "When a certificate in use ends, epoch seconds.",
        ("name", "use"),
        ends.items(),
    )
    yield gauge(
        "payproxy_journal_backlog_records",
        "Records in the journal that a sink has not taken yet.",
        (),
        [((), status.journal_backlog)],
    )
    yield counter(
        "payproxy_log_dropped",
        "Records that a sink never got.",
        ("sink",),
        {(sink,): [count] for sink, count in status.log_dropped},
    )
    yield gauge(
        "payproxy_migration_retry_pins",
        "Retry pins that hold: requests whose outcome is not certain, which a retry follows to its side.",
        ("migration",),
        (((one.name,), float(one.retry_pins)) for one in status.migrations),
    )
    yield gauge(
        "payproxy_migration_weight_ratio",
        "Share of a migration that is on the modern side, 0 to 1.",
        ("migration",),
        (((one.name,), one.weight / 100) for one in status.migrations),
    )
    yield gauge(
        "payproxy_config_last_reload_successful",
        "1 if the configuration read last is in force, 0 if it was refused.",
        (),
        [((), 0 if status.reload_problem else 1)],
    )
    yield InfoMetricFamily(
        "payproxy_build",
        "The version that runs.",
        value={
            "version": status.version,
            "python": platform.python_version(),
            "environment": status.environment,
            "instance": status.instance,
        },
    )


def _readiness(status: Status) -> Iterator[Metric]:
    yield gauge(
        "payproxy_ready",
        "1 if /readyz says that requests can be served, else 0.",
        (),
        [((), int(health.holds(health.ready(status))))],
    )
    # During a reload an old and a new worker share a number: their values add up, and either may be out of descriptors.
    in_flight, connections, paused = Counter[str](), Counter[str](), Counter[str]()
    for worker in status.workers:
        number = str(worker.worker)
        in_flight[number] += worker.in_flight
        connections[number] += worker.connections
        paused[number] |= worker.full
    yield gauge(
        "payproxy_requests_in_flight",
        "Requests of callers that are being served, as the worker said a second ago at most.",
        ("worker",),
        (((number,), value) for number, value in in_flight.items()),
    )
    yield gauge(
        "payproxy_connections",
        "Open connections of callers.",
        ("worker",),
        (((number,), value) for number, value in connections.items()),
    )
    yield gauge(
        "payproxy_accept_paused",
        "1 if new callers had to wait, since the worker has no file descriptor for them, else 0.",
        ("worker",),
        (((number,), value) for number, value in paused.items()),
    )
