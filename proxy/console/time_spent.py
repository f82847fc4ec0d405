"""Where the time of an exchange went: queue and token, connecting, waiting for the bank, the answer's body; pure."""

from collections.abc import Iterator
from datetime import datetime

from proxy.console.page import Cell, Table
from proxy.records.record_words import Record

_BEFORE = "the caller's body, queue and token"
_BETWEEN = "between attempts: a new token"


def time_spent(record: Record) -> Table | None:
    """Return the phases of the exchange *record* in order, with their milliseconds; None if it was not sent."""
    try:
        phases = list(_phases(record))
        total = float(record.get("duration_ms") or 0)
    except (ValueError, KeyError, TypeError):  # a record of another version
        return None
    if not phases or not total:
        return None
    return Table(
        title="Where the time went",
        columns=("phase", "ms", "share"),
        rows=tuple(
            (Cell(name), Cell(f"{ms:.1f}", number=True), Cell(f"{100 * ms / total:.0f} %", number=True))
            for name, ms in phases
        ),
        empty="",
        note=f"Of {total:.1f} ms in all. An attempt begins when its connection is there; a kept one takes no time.",
    )


def _phases(record: Record) -> Iterator[tuple[str, float]]:
    """Yield each phase with its milliseconds."""
    attempts, began = record.get("attempts") or (), _seconds(record["time"])
    done = 0.0
    for number, attempt in enumerate(attempts, start=1):
        sent_after = (_seconds(attempt["started"]) - began) * 1000
        connect, wait = float(attempt["connect_ms"]), float(attempt["wait_ms"])
        yield _BEFORE if number == 1 else _BETWEEN, max(0.0, sent_after - connect - done)
        if connect:
            yield f"attempt {number}: connect", connect
        if attempt.get("status"):
            yield f"attempt {number}: wait for the bank's answer", wait
            done = sent_after + wait
        else:
            done = sent_after
    if attempts:
        answered = bool(attempts[-1].get("status"))
        rest = "the answer's body, to the caller" if answered else f"attempt {len(attempts)}: wait, without an answer"
        yield rest, max(0.0, float(record.get("duration_ms") or 0) - done)


def _seconds(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()
