"""The answer of /api/status as one screen of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.cli.output import paint, printable, wrapped
from proxy.telemetry.expiry import time_left
from proxy.times import duration, local, recent

Values = Mapping[str, Any]

_DAY = 86400
# A renewal of a certificate at the bank takes days.
_SOON_DAYS = 30
_MOST_ROWS = 10
_INDENT = "  "
_COLOURS = {"ok": "green", "degraded": "yellow", "failed": "red"}


def status_text(status: Values, *, width: int = 0) -> str:
    """Return *status* as text: a headline, then a block each for what there is; sentences wrapped at *width*."""
    now = float(status["time"])
    span = recent(status["recent_seconds"], uptime=status["uptime"])
    blocks = (
        _headline(status, width),
        _block("Tokens", _tokens(status["tokens"], width)),
        _block("Certificates", _certificates(status["certificates"])),
        _block(f"Callers {span}", _callers(status["callers"], now)),
        _block(f"Errors {span}", _errors(status["errors"], now, width)),
        _block("Request log", _sinks(status["sinks"])),
        _block("Migrations", _migrations(status["migrations"])),
        _block("Replicas", _replicas(status)),
    )
    return "\n\n".join(filter(None, blocks))


def _headline(status: Values, width: int) -> str:
    serving = sum(worker["state"] == "serving" for worker in status["workers"])
    in_flight = sum(worker["in_flight"] for worker in status["workers"])
    line = (
        f"{_clean(status['instance'])} ({_clean(status['environment'])})  payproxy {_clean(status['version'])}  up "
        f"{duration(status['uptime'])}  {serving} of {status['workers_wanted']} workers  {in_flight} in flight  "
        f"{local(status['time'])}"
    )
    checks = [check for check in status["checks"] if check["verdict"] != "ok"]
    worst = "failed" if not status["ready"] else "degraded" if checks else "ok"
    words = {"ok": "READY", "degraded": "READY, degraded", "failed": "NOT READY"}[worst]
    lines = [line, paint(words, _COLOURS[worst])]
    for check in checks:
        text = f"{check['name']} {check['verdict']}: {check['reason']}"
        lines.append(wrapped(_clean(text), width=width, first=_INDENT, indent=_INDENT * 2))
    # An older instance says none.
    lines += (
        wrapped(_clean(text), width=width, first=_INDENT, indent=_INDENT * 2) for text in status.get("troubles", ())
    )
    return "\n".join(lines)


def _tokens(tokens: Sequence[Values], width: int) -> Iterator[str]:
    rows = [
        (
            one["credential"],
            one["audience"] or one["scope"] or "no audience",
            one["state"],
            f"{one['seconds_left']:.0f} s left" if one["seconds_left"] else "",
            one["fingerprint"],
        )
        for one in tokens
    ]
    for one, line in zip(tokens, _columns(rows), strict=True):
        usable = one["state"] in {"fresh", "stale"}
        yield line if usable else paint(line, "red")
        if one["error_code"]:
            text = (
                f"{one['error_code']}: {one['meaning']}; next try in {one['retry_in']:.0f} s. It said: {one['error']}"
            )
            yield wrapped(_clean(text), width=width, first=_INDENT * 2, indent=_INDENT * 2)


def _certificates(certificates: Sequence[Values]) -> Iterator[str]:
    found = sorted(certificates, key=lambda one: float(one["expires"]))
    rows = [(one["name"], one["use"], _days_left(one), one["subject"]) for one in found]
    for one, line in zip(found, _columns(rows), strict=True):
        yield paint(line, "yellow") if one["seconds_left"] < _SOON_DAYS * _DAY else line


def _days_left(certificate: Values) -> str:
    left = certificate["seconds_left"]
    until = local(certificate["expires"])[:10]
    return f"{time_left(left)} left, until {until}" if left > 0 else f"EXPIRED {until}"


def _callers(callers: Sequence[Values], now: float) -> Iterator[str]:
    if not callers:
        yield f"{_INDENT}none"
        return
    rows: list[Sequence[str]] = [("caller", "requests", "failed", "held back", "client errors", "sent unknown", "last")]
    for one in callers[:_MOST_ROWS]:
        counts = (one[name] for name in ("requests", "failed", "held_back", "client_errors", "sent_unknown"))
        rows.append((one["name"] or "(anonymous)", *map(str, counts), f"{duration(now - one['last'])} ago"))
    yield from _columns(rows)
    yield from _rest(callers)


def _errors(errors: Sequence[Values], now: float, width: int) -> Iterator[str]:
    if not errors:
        yield f"{_INDENT}none"
    for one in errors[:_MOST_ROWS]:
        name = one["code"] or (f"{one['status']} from the bank" if one["status"] else "no answer")
        when = f"{_times(one['count'])}, last {duration(now - one['last'])} ago"
        who = f"route {one['route'] or '-'}, caller {one['caller'] or '-'}, sent {one['sent_upstream']}"
        line = ", ".join(filter(None, [f"{name}, {when}: {who}", one["cause"], one["id"]]))
        yield paint(wrapped(_clean(line), width=width, first=_INDENT, indent=_INDENT * 2), "yellow")
        words = f"{one['meaning']} {one['next_step']}"
        yield wrapped(_clean(words), width=width, first=_INDENT * 2, indent=_INDENT * 2)
    yield from _rest(errors)


def _sinks(sinks: Sequence[Values]) -> Iterator[str]:
    rows = []
    for one in sinks:
        dropped = f"{one['dropped']} dropped" if one["dropped"] else ""
        failing = f"failing: {one['failing']}" if one["failing"] else ""
        rows.append((one["name"], f"{one['backlog']} records behind", dropped, failing))
    for one, line in zip(sinks, _columns(rows), strict=True):
        yield paint(line, "yellow") if one["failing"] or one["dropped"] else line


def _migrations(migrations: Sequence[Values]) -> Iterator[str]:
    rows = []
    for one in migrations:
        side = {"legacy": "all on legacy", "modern": "all on modern"}.get(one["phase"], f"{one['weight']} % on modern")
        by = f"by {one['who']}, {local(one['when'])}: {one['reason']}" if one["who"] else "never changed"
        held = f"held on legacy: {', '.join(one['guard_pinned'])}" if one["guard_pinned"] else ""
        rows.append((one["name"], f"weight {one['weight']}", side, by, held))
    yield from _columns(rows)


def _replicas(status: Values) -> Iterator[str]:
    if status["shared"]:
        yield f"{_INDENT}{_clean(', '.join(status['replicas'])) or 'no other one is known to be alive'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _rest(rows: Sequence[Values]) -> Iterator[str]:
    if len(rows) > _MOST_ROWS:
        yield f"{_INDENT}and {len(rows) - _MOST_ROWS} more: --json has all"


def _block(title: str, lines: Iterator[str]) -> str:
    text = "\n".join(lines)
    return f"{title}\n{text}" if text else ""


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* with their cells in columns."""
    clean = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True) if width)
        yield f"{_INDENT}{'  '.join(cells)}".rstrip()


def _clean(text: object) -> str:
    """Return *text* on one line and without control characters: names and causes come from files and peers."""
    return printable(str(text)).replace("\n", " ").replace("\t", " ")
