"""The overview: is it well, and if not, why."""

import dataclasses
from collections.abc import Iterator

from proxy.console.outcomes import Unresolved
from proxy.console.page import REFRESH_SECONDS, Cell, Facts, PageContent, Tone
from proxy.console.plots import Plot
from proxy.console.status_pages import callers_table, errors_table, migrations_table, tokens_table
from proxy.telemetry import health
from proxy.telemetry.expiry import time_left
from proxy.telemetry.health import Check, CheckStatus
from proxy.telemetry.status import Status, WorkerState
from proxy.telemetry.troubles import troubles
from proxy.times import duration, local

PATH = "/console/"
UNRESOLVED = "/console/requests?sent=unknown&open=yes"
_MOST_ROWS = 5
_MOST_TOKENS = 10
_TONES = {CheckStatus.OK: Tone.GOOD, CheckStatus.DEGRADED: Tone.WARN, CheckStatus.FAILED: Tone.BAD}


def overview(status: Status, shown: tuple[Plot, ...], unresolved: Unresolved | None = None) -> PageContent:
    """Return the first page: ready or why not, the last hour, the plots *shown*, tokens, errors, migrations.

    *unresolved* is None if it is not counted yet.
    """
    checks, wrong = health.ready(status), troubles(status)
    lead, tone = _verdict(checks, wrong)
    return PageContent(
        path=PATH,
        title="Overview",
        twin="/console/overview.json",
        refresh=REFRESH_SECONDS,
        data=lambda: (
            health.status_values(status) | {"unresolved": dataclasses.asdict(unresolved) if unresolved else None}
        ),
        lead=lead,
        tone=tone,
        points=(
            *(
                Cell(f"{one.name} {one.verdict}: {one.reason}", _TONES[one.verdict])
                for one in checks
                if one.verdict is not CheckStatus.OK
            ),
            *(Cell(words, Tone.WARN) for words in wrong),
        ),
        blocks=(
            Facts(title="Now", rows=(*_now(status), _of_unresolved(unresolved))),
            Facts(title=f"Requests {status.recent}", rows=tuple(_recent(status))),
            *shown,
            errors_table(status, title=f"Latest errors {status.recent}", most=_MOST_ROWS),
            tokens_table(status, most=_MOST_TOKENS),
            callers_table(status, title=f"Busiest callers {status.recent}", most=_MOST_ROWS),
            *((migrations_table(status, most=_MOST_ROWS),) if status.migrations else ()),
        ),
    )


def _verdict(checks: tuple[Check, ...], wrong: tuple[str, ...]) -> tuple[str, Tone]:
    if not health.holds(checks):
        return "Not ready: requests are not served.", Tone.BAD
    if any(one.verdict is CheckStatus.DEGRADED for one in checks):
        return "Ready, degraded: requests are served, and something needs attention.", Tone.WARN
    if wrong:
        return "Ready: requests are served, and something needs attention.", Tone.WARN
    return "Ready: requests are served.", Tone.GOOD


def _now(status: Status) -> Iterator[tuple[str, Cell]]:
    serving = sum(worker.state is WorkerState.SERVING for worker in status.workers)
    few = Tone.WARN if serving < status.workers_wanted else Tone.PLAIN
    yield "Time", Cell(local(status.time))
    yield "Up", Cell(duration(status.uptime))
    yield "Workers", Cell(f"{serving} of {status.workers_wanted} serve", few)
    yield "Requests in flight", Cell(str(sum(worker.in_flight for worker in status.workers)))
    yield "Connections of callers", Cell(str(sum(worker.connections for worker in status.workers)))
    if status.certificates:
        first = min(status.certificates, key=lambda one: one.expires).at(status.time)
        left = first.expires - status.time
        words = f"{first.name} ({first.use}), in {time_left(left)}" if left > 0 else f"{first.name} has expired"
        yield "Next certificate to expire", Cell(words, _of_certificate(left, first.warning), "/console/certificates")
    failing = [sink for sink in status.sinks if sink.failing]
    words = ", ".join(f"{sink.name}: {sink.failing}" for sink in failing) or f"{status.journal_backlog} records behind"
    yield "Request log", Cell(words, Tone.WARN if failing else Tone.PLAIN, "/console/sinks")
    if status.shared:
        yield "Other replicas", Cell(", ".join(status.replicas) or "none is known to be alive")


def _of_unresolved(found: Unresolved | None) -> tuple[str, Cell]:
    """Return how many requests there are of which nobody knows whether the bank has them."""
    if found is None or found.problem:
        words, tone = (f"not known: {found.problem}", Tone.WARN) if found else ("being counted", Tone.PLAIN)
    else:
        words = f"{found.number} or more" if found.more else str(found.number)
        tone = Tone.BAD if found.number else Tone.PLAIN
    return "Outcome unknown and not resolved", Cell(words, tone, UNRESOLVED)


def _of_certificate(left: float, warning: str) -> Tone:
    if left <= 0:
        return Tone.BAD
    return Tone.WARN if warning else Tone.PLAIN


def _recent(status: Status) -> Iterator[tuple[str, Cell]]:
    sums = {
        "Requests": (sum(one.requests for one in status.callers), Tone.PLAIN),
        "Fine": (sum(one.fine for one in status.callers), Tone.PLAIN),
        "Failed": (sum(one.failed for one in status.callers), Tone.BAD),
        "Held back by the proxy": (sum(one.held_back for one in status.callers), Tone.WARN),
        "Client errors": (sum(one.client_errors for one in status.callers), Tone.WARN),
        "Unknown whether the bank has it": (sum(one.sent_unknown for one in status.callers), Tone.BAD),
    }
    for name, (value, tone) in sums.items():
        yield name, Cell(str(value), tone if value else Tone.PLAIN)
