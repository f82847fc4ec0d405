"""Build metric families from plain tables; a key holds the label values."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from proxy.telemetry.counters import Row

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


def gauge(name: str, documentation: str, labels: Sequence[str], values: Iterable[tuple[Key, float]]) -> Metric:
    """Return a gauge."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
