"""The keeper's metrics: its own events, its status and what the workers counted, in a registry of their own."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from proxy.events import ClockSkewMeasured, Event, MintFailed, TokenMinted
from proxy.telemetry.counters import DURATION_BOUNDS, OTHER, OVERHEAD_BOUNDS, Row, rows
from proxy.telemetry.status import Status, WorkerStatus

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Rows of one kind. Honest traffic needs methods x routes x statuses; what a worker gone wrong makes up ends in one row.
MAX_ROWS = 10_000

_Key = tuple[str, ...]


class Metrics:
    """Everything /metrics says; *status* is asked at each scrape, so no gauge outlives what it speaks of."""

    def __init__(self, *, status: Callable[[], Status]) -> None:
        self._status = status
        self._server: dict[_Key, Row] = {}
        self._client: dict[_Key, Row] = {}
        self._overhead: dict[_Key, Row] = {}
        self._exchanges: dict[_Key, Row] = {}
        self._errors: dict[_Key, Row] = {}
        self._replays: dict[_Key, Row] = {}
        self._mints: dict[_Key, Row] = {}
        self._migrated: dict[_Key, Row] = {}
        self._skews: dict[str, float] = {}
        self._processes = ProcessReader()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(self._collect))

    def observe(self, event: Event) -> None:
        """Take in what happened in the keeper."""
        match event:
            case TokenMinted():
                _add(self._mints, (event.credential, "minted"), [1])
            case MintFailed():
                _add(self._mints, (event.credential, event.code), [1])
            case ClockSkewMeasured():
                self._skews[event.credential] = event.seconds

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add what a worker counted since its last *delta*; it stays counted when the worker ends.

        DeltaUnusable if it can't be read: nothing of it is counted then.
        """
        duration = len(DURATION_BOUNDS) + 2
        server = list(rows(delta, "server", labels=5, width=duration))
        client = list(rows(delta, "client", labels=2, width=duration))
        overhead = list(rows(delta, "overhead", labels=1, width=len(OVERHEAD_BOUNDS) + 2))
        replays = list(rows(delta, "replays", labels=2, width=1))
        for (method, route, status, sent, code), row in server:
            count = [sum(row[:-1])]
            _add(self._server, (method, route, _status_label(status)), row)
            _add(self._exchanges, (route, sent), count)
            if code:
                _add(self._errors, (code,), count)
        for (address, status), row in client:
            _add(self._client, (address, _status_label(status)), row)
        for (route,), row in overhead:
            _add(self._overhead, (route,), row)
        for (credential, outcome), row in replays:
            _add(self._replays, (credential, outcome), row)

    def migrated(self, migration: str, side: str, outcome: str) -> None:
        """Count an attempt on a migrated route."""
        _add(self._migrated, (migration, side, outcome), [1])

    def render(self, accept: str) -> tuple[str, bytes]:
        """Return content type and text: OpenMetrics if *accept*, the header, names it, else Prometheus' text format."""
        # prometheus_client's choose_encoder() would parse, and hand back, a version that the client made up.
        if "application/openmetrics-text" in accept.lower():
            return OPENMETRICS, bytes(openmetrics.generate_latest(self._registry))  # type: ignore[no-untyped-call] # it has none
        return TEXT, exposition.generate_latest(self._registry)

    def _collect(self) -> Iterator[Metric]:
        status = self._status()
        yield _histogram(
            "http_server_request_duration_seconds",
            "Seconds from a request's head to the end of its answer, towards callers.",
            ("http_request_method", "http_route", "http_response_status_code"),
            self._server,
            DURATION_BOUNDS,
        )
        yield _histogram(
            "http_client_request_duration_seconds",
            "Seconds from the last byte of a request to the head of the bank's answer, per send.",
            ("server_address", "http_response_status_code"),
            self._client,
            DURATION_BOUNDS,
        )
        yield _histogram(
            "payproxy_overhead_seconds",
            "Seconds of an exchange that were neither the caller's nor the bank's.",
            ("http_route",),
            self._overhead,
            OVERHEAD_BOUNDS,
        )
        yield _counter(
            "payproxy_exchanges",
            "Finished exchanges by whether the bank may have the request.",
            ("http_route", "sent_upstream"),
            self._exchanges,
        )
        yield _counter("payproxy_errors", "Answers made by the proxy itself, by code.", ("code",), self._errors)
        yield _counter(
            "payproxy_replays",
            "Refused tokens by what came of them: succeeded, refused, failed; not sent again: body_not_held, "
            "no_newer_token, prevented.",
            ("credential", "outcome"),
            self._replays,
        )
        yield from self._tokens(status)
        yield _counter(
            "payproxy_migration_requests",
            "What came of requests on migrated routes, by side: ok, client_error, forbidden, refused, failed, none.",
            ("migration", "side", "outcome"),
            self._migrated,
        )
        yield from _gauges(status)
        yield from self._processes.read(status.workers)

    def _tokens(self, status: Status) -> Iterator[Metric]:
        credentials = sorted({token.credential for token in status.tokens})
        # A counter that begins at 0 lets rate() see its first step.
        outcomes = ("minted", "token_refused", "token_unavailable")
        zeros: dict[_Key, Row] = {(credential, outcome): [0.0] for credential in credentials for outcome in outcomes}
        yield _counter(
            "payproxy_token_mint",
            "Calls of a token endpoint: minted, token_refused, token_unavailable.",
            ("credential", "outcome"),
            zeros | self._mints,
        )
        expiries: dict[_Key, float] = {}
        for token in status.tokens:
            if token.expires:
                # Two routes may ask for one audience with different scopes: the token that ends first counts.
                key = (token.credential, token.audience)
                expiries[key] = min(token.expires, expiries.get(key, token.expires))
        yield _gauge(
            "payproxy_token_expiry_timestamp_seconds",
            "When the access token in use ends, epoch seconds.",
            ("credential", "audience"),
            expiries.items(),
        )
        yield _gauge(
            "payproxy_clock_skew_seconds",
            "The token endpoint's clock minus ours.",
            ("credential",),
            (((name,), self._skews[name]) for name in credentials if name in self._skews),
        )


class ProcessReader:
    """process_*: the keeper's without a label, as every exporter has them, each worker's with `worker`.

    One family for all, so that a panel which knows only the standard names shows the workers too: most of the work is
    theirs.
    """

    def __init__(self) -> None:
        self._pid: int | str = "self"
        self._collector = ProcessCollector(pid=lambda: self._pid, registry=None)

    def read(self, workers: Sequence[WorkerStatus]) -> Iterable[Metric]:
        """Return the families; of two processes with one worker's number, as during a reload, the younger is shown."""
        families = {family.name: family for family in self._of("self")}
        youngest = {worker.worker: worker for worker in sorted(workers, key=lambda worker: worker.started)}
        for number, worker in sorted(youngest.items()):
            for family in self._of(worker.pid):
                for sample in family.samples:
                    labels = sample.labels | {"worker": str(number)}
                    families[family.name].add_sample(sample.name, labels, sample.value)
        return families.values()

    def _of(self, pid: int | str) -> Iterable[Metric]:
        self._pid = pid
        return self._collector.collect()


class _Scrape(Collector):
    """What the registry asks."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _gauges(status: Status) -> Iterator[Metric]:
    ends: dict[_Key, float] = {}
    for certificate in status.certificates:
        # A file may hold several of one use, as a chain does: the one that ends first ends all.
        key = (certificate.name, certificate.use)
        ends[key] = min(certificate.expires, ends.get(key, certificate.expires))
    yield _gauge(
        "payproxy_certificate_expiry_timestamp_seconds",
        "When a certificate in use ends, epoch seconds.",
        ("name", "use"),
        ends.items(),
    )
    yield _gauge(
        "payproxy_journal_backlog_records",
        "Records in the journal that a sink has not taken yet.",
        (),
        [((), status.journal_backlog)],
    )
    yield _counter(
        "payproxy_log_dropped",
        "Records that a sink never got.",
        ("sink",),
        {(sink,): [count] for sink, count in status.log_dropped},
    )
    yield _gauge(
        "payproxy_migration_retry_pins",
        "Retry pins that hold: requests whose outcome is not certain, which a retry follows to its side.",
        ("migration",),
        (((one.name,), float(one.retry_pins)) for one in status.migrations),
    )
    yield _gauge(
        "payproxy_migration_weight_ratio",
        "Share of a migration that is on the modern side, 0 to 1.",
        ("migration",),
        (((one.name,), one.weight / 100) for one in status.migrations),
    )
    yield _gauge(
        "payproxy_config_last_reload_successful",
        "1 if the configuration read last is in force, 0 if it was refused.",
        (),
        [((), 0 if status.reload_problem else 1)],
    )
    yield InfoMetricFamily(
        "payproxy_build",
        "The version that runs.",
        value={"version": status.version, "python": platform.python_version()},
    )


def _histogram(
    name: str, documentation: str, labels: Sequence[str], table: Mapping[_Key, Row], bounds: Sequence[float]
) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    edges = [*map(str, bounds), "+Inf"]
    for key, row in table.items():
        family.add_metric(key, list(zip(edges, accumulate(row[:-1]), strict=True)), sum_value=row[-1])
    return family


def _counter(name: str, documentation: str, labels: Sequence[str], table: Mapping[_Key, Sequence[float]]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, row in table.items():
        family.add_metric(key, row[0])
    return family


def _gauge(name: str, documentation: str, labels: Sequence[str], values: Iterable[tuple[_Key, float]]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _add(table: dict[_Key, Row], key: _Key, row: Sequence[float]) -> None:
    known = table.get(key)
    if known is None and len(table) >= MAX_ROWS:
        key = (OTHER,) * len(key)
        known = table.get(key)
    if known is None:
        table[key] = list(row)
        return
    for index, amount in enumerate(row):
        known[index] += amount


def _status_label(status: int) -> str:
    return str(status) if status else ""
