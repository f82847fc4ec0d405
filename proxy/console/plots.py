"""Plots as lines in an SVG made here: each with a title, a sentence, dash patterns besides colours, and a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.console.page import Cell, Table
from proxy.result import Result
from proxy.telemetry.counters import DURATION_BOUNDS, OVERHEAD_BOUNDS
from proxy.telemetry.history import RESULTS, Sample, quantile
from proxy.times import duration, local

WIDTH: Final = 600
HEIGHT: Final = 120
# By place of the line in a plot: solid, dashed, dotted, dash and dot, long dashes.
DASHES: Final = ("none", "8 4", "2 3", "10 3 2 3", "16 6")
_SHOWN: Final = (Result.FINE, Result.CLIENT_ERROR, Result.FAILED, Result.HELD_BACK, Result.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time span that can be looked at: *number* samples of *together* slots of ring number *ring*."""

    name: str
    ring: int
    number: int
    together: int


WINDOWS: Final = {
    "10m": Window(name="10 minutes", ring=0, number=60, together=10),
    "1h": Window(name="hour", ring=1, number=60, together=6),
    "2h": Window(name="2 hours", ring=1, number=60, together=12),
    "7d": Window(name="7 days", ring=2, number=56, together=36),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """*points* is in the form of SVG's polyline."""

    name: str
    dash: str
    points: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot: *summary* says what is to be seen, *scale* what its height is, *table* has the numbers."""

    title: str
    summary: str
    scale: str
    begins: str
    ends: str
    lines: tuple[Line, ...]
    table: Table
    width: int = WIDTH
    height: int = HEIGHT


def plots(samples: Sequence[Sample], window: Window) -> tuple[Plot, ...]:
    """Return the plots of *samples*, the oldest first: rates by result, and duration against the proxy's own share."""
    return (_rates(samples, window), _durations(samples, window))


def _rates(samples: Sequence[Sample], window: Window) -> Plot:
    series = [[one.results[place] / one.seconds for one in samples] for place in _SHOWN]
    total = sum(sum(one.results) for one in samples)
    bad = sum(one.results[Result.FAILED] for one in samples)
    highest = max((sum(one.results) / one.seconds for one in samples), default=0.0)
    share = f"{100 * bad / total:.2g} % of them failed" if bad else "none of them failed"
    words = f"{total} requests in the last {window.name}, at most {highest:.3g} a second; {share}."
    return _plot(
        "Requests a second, by result",
        words if total else f"No request in the last {window.name}.",
        samples,
        names=[RESULTS[place] for place in _SHOWN],
        series=series,
        unit="requests a second",
    )


def _durations(samples: Sequence[Sample], window: Window) -> Plot:
    names = ("p50", "p95", "own share p50", "own share p95")
    series = [
        *([1000 * quantile(share, one.durations, DURATION_BOUNDS) for one in samples] for share in (0.5, 0.95)),
        *([1000 * quantile(share, one.overheads, OVERHEAD_BOUNDS) for one in samples] for share in (0.5, 0.95)),
    ]
    highest, own = max(series[1], default=0.0), max(series[3], default=0.0)
    words = f"In the last {window.name} p95 was at most {highest:.3g} ms, the proxy's own share of it {own:.3g} ms."
    return _plot(
        "Milliseconds of a request, and the proxy's own share",
        words if highest else f"No request in the last {window.name}.",
        samples,
        names=names,
        series=series,
        unit="ms",
    )


def _plot(
    title: str,
    summary: str,
    samples: Sequence[Sample],
    *,
    names: Sequence[str],
    series: Sequence[Sequence[float]],
    unit: str,
) -> Plot:
    highest = max(map(max, series)) if samples else 0.0
    rows = [
        (Cell(local(one.start)), *(Cell(f"{line[place]:.3g}", number=True) for line in series))
        for place, one in enumerate(samples)
        if any(one.results)
    ]
    each = duration(samples[0].seconds) if samples else ""
    return Plot(
        title=title,
        summary=summary,
        scale=f"From 0 to {highest:.3g} {unit}",
        begins=local(samples[0].start) if samples else "",
        ends=local(samples[-1].start + samples[-1].seconds) if samples else "",
        lines=tuple(
            Line(name=name, dash=dash, points=_points(line, highest))
            for name, dash, line in zip(names, DASHES, series, strict=False)
        ),
        table=Table(
            title=f"{title}, each {each}",
            columns=("from", *names),
            rows=tuple(reversed(rows)),
            empty="There is nothing to show yet: it begins with the first request.",
        ),
    )


def _points(values: Sequence[float], highest: float) -> str:
    step = WIDTH / max(1, len(values) - 1)
    scale = HEIGHT / highest if highest else 0.0
    return " ".join(f"{place * step:.1f},{HEIGHT - value * scale:.1f}" for place, value in enumerate(values))
