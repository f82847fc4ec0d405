"""Plots as lines in an SVG made here: each with a title, a sentence, dash patterns besides colours, and a table."""

from collections.abc import Callable, Iterator, Sequence
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
    """*segments* are points in the form of SVG's polyline; between them is nothing to show."""

    name: str
    dash: str
    segments: tuple[str, ...]


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
    words = f"{total} requests in the last {window.name}, at most {_rate(highest)} a second; {share}."
    return _plot(
        "Requests a second, by result",
        words if total else f"No request in the last {window.name}.",
        samples,
        names=[RESULTS[place] for place in _SHOWN],
        series=series,
        text=_rate,
        unit=" requests a second",
    )


def _durations(samples: Sequence[Sample], window: Window) -> Plot:
    """Plot quantiles: estimates from the buckets of a histogram, so "about", and none where there was no request."""
    names = ("p50", "p95", "own share p50", "own share p95")
    series = [
        *([_quantile(share, one.durations, DURATION_BOUNDS) for one in samples] for share in (0.5, 0.95)),
        *([_quantile(share, one.overheads, OVERHEAD_BOUNDS) for one in samples] for share in (0.5, 0.95)),
    ]
    highest, own = _highest(series[1:2]), _highest(series[3:])
    words = (
        f"In the last {window.name} the highest p95 of {duration(samples[0].seconds)} was about {_time(highest)}, that "
        f"of the proxy's own share about {_time(own)}."
        if highest
        else f"No request in the last {window.name}."
    )
    return _plot(
        "Duration of a request, and the proxy's own share",
        words,
        samples,
        names=names,
        series=series,
        text=_time,
    )


def _plot(
    title: str,
    summary: str,
    samples: Sequence[Sample],
    *,
    names: Sequence[str],
    series: Sequence[Sequence[float | None]],
    text: Callable[[float], str],
    unit: str = "",
) -> Plot:
    highest = _highest(series)
    rows = [
        (Cell(local(one.start)), *(_cell(line[place], text) for line in series))
        for place, one in enumerate(samples)
        if any(one.results)
    ]
    each = duration(samples[0].seconds) if samples else ""
    return Plot(
        title=title,
        summary=summary,
        scale=f"From 0 to {text(highest)}{unit}",
        begins=local(samples[0].start) if samples else "",
        ends=local(samples[-1].start + samples[-1].seconds) if samples else "",
        lines=tuple(
            Line(name=name, dash=dash, segments=tuple(_segments(line, highest)))
            for name, dash, line in zip(names, DASHES, series, strict=False)
        ),
        table=Table(
            title=f"{title}, each {each}",
            columns=("from", *names),
            rows=tuple(reversed(rows)),
            empty="There is nothing to show yet: it begins with the first request.",
        ),
    )


def _segments(values: Sequence[float | None], highest: float) -> Iterator[str]:
    """Yield the points of each run of *values* that are there."""
    step = WIDTH / max(1, len(values) - 1)
    scale = HEIGHT / highest if highest else 0.0
    run: list[tuple[float, float]] = []
    for place, value in enumerate((*values, None)):
        if value is not None:
            run.append((place * step, HEIGHT - value * scale))
        elif run:
            if len(run) == 1:  # a line of one point is not drawn
                [(x, y)] = run
                run = [(x - 1, y), (x + 1, y)]
            yield " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            run = []


def _quantile(share: float, buckets: Sequence[int], bounds: Sequence[float]) -> float | None:
    return quantile(share, buckets, bounds) if any(buckets) else None


def _highest(series: Sequence[Sequence[float | None]]) -> float:
    return max((value for line in series for value in line if value is not None), default=0.0)


def _cell(value: float | None, text: Callable[[float], str]) -> Cell:
    return Cell("" if value is None else text(value), number=True)


def _time(seconds: float) -> str:
    """Return *seconds* as 4.8 s, 217 ms or 85 us: an estimate has no more digits."""
    if round(seconds * 1e3) >= 1000:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.0f} ms" if round(seconds * 1e6) >= 1000 else f"{seconds * 1e6:.0f} us"


def _rate(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
