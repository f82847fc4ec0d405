"""Members of records in words that commands and console share."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Record = Mapping[str, Any]


def summary(record: Record) -> str:
    """Return a short summary of a record that is not of an exchange."""
    names = ("event", "what", "verdict", "asked", "who", "reason", "credential", "audience", "code", "cause", "count")
    return ", ".join(cell(record[name]) for name in names if record.get(name))


def cell(value: object) -> str:
    """Return a member of a record as text, "" if it is missing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def signature(record: Record) -> str:
    """Return in words how the body of *record* was signed, "" if it was not."""
    made = record.get("signature")
    if not isinstance(made, dict):
        return ""
    hmac = f", HMAC {cell(made.get('body_hmac'))}" if made.get("body_hmac") else ""
    return f"a JWS of {cell(made.get('bytes'))} bytes{hmac}, signed by the key {cell(made.get('key'))}"


def left(record: Record) -> str:
    """Return in words that the caller of *record* left, and after how long if that is known."""
    after = record.get("caller_left_ms")
    return f"caller left after {after / 1000:.1f} s" if isinstance(after, int | float) else "caller left"


def happened(record: Record) -> list[tuple[str, str]]:
    """Return the events of the exchange *record* in order: when, as "12.3 ms" after its start or "", and what."""
    started = _seconds(record.get("time"))
    rows = [("0.0 ms", f"{cell(record.get('client_address')) or 'the caller'} asked")]
    attempts = record.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], start=1):
        sent_at = _seconds(attempt.get("started"))
        after = f"{(sent_at - started) * 1000:.1f} ms" if started and sent_at else ""
        status = f"answered {attempt['status']}" if attempt.get("status") else "no answer"
        connect, wait = cell(attempt.get("connect_ms")), cell(attempt.get("wait_ms"))
        what = f"attempt {number}: connect {connect} ms, wait {wait} ms, {status}, sent {cell(attempt.get('sent'))}"
        rows.append((after, f"{what} (token {cell(attempt.get('token_fingerprint'))})"))
    total = record.get("duration_ms")
    rows.append(
        (f"{cell(total)} ms" if total else "", f"{_end(record)}; {cell(record.get('overhead_ms'))} ms in the proxy")
    )
    if isinstance(at := record.get("caller_left_ms"), int | float):
        # At its place among the events, before those at the same time.
        place = next((n for n, row in enumerate(rows) if n and _is_after(row[0], at)), len(rows) - 1)
        rows.insert(place, (f"{at:.1f} ms", "the caller left"))
    return rows


def _is_after(shown: str, milliseconds: float) -> bool:
    try:
        return float(shown.removesuffix(" ms")) >= milliseconds
    except ValueError:
        return False


def _end(record: Record) -> str:
    answer = f"{cell(record.get('status'))} from the {cell(record.get('origin'))}" if record.get("status") else ""
    if record.get("caller_left") is True:
        return f"{answer}: the caller left before it had all of it" if answer else "no answer: the caller had left"
    return f"{answer} to the caller" if answer else "no answer to the caller"


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
