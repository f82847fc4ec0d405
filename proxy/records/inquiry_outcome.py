"""Whether what the bank said of a request of unknown outcome settles it; pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from proxy.records.audit_records import INQUIRY_ABOUT
from proxy.records.unanswered import SENT_TO, WORKER_ENDED
from proxy.settings.methods import SAFE_METHODS

Record = dict[str, Any]

# The bank works at most 70 s on a payment, and the request may have been on its way before that. An earlier "not found"
# says nothing. The first automatic inquiry waits as long.
SETTLED_AFTER = 90.0
# The highest value of server.exchange_timeout.
_LONGEST_EXCHANGE = timedelta(days=1)


def by_exchange(inquiries: Iterable[Record]) -> dict[str, list[Record]]:
    """Return *inquiries* by the id of their exchange, each once, the oldest first."""
    grouped: dict[str, list[Record]] = {}
    for one in sorted({one["id"]: one for one in inquiries}.values(), key=lambda one: str(one["time"])):
        grouped.setdefault(exchange_of(one), []).append(one)
    return grouped


def exchange_of(inquiry: Mapping[str, Any]) -> str:
    """Return the id of the exchange that *inquiry* is about."""
    index = inquiry.get("index")
    return str(index.get(INQUIRY_ABOUT, "")) if isinstance(index, dict) else ""


def may_have_changed(record: Mapping[str, Any]) -> bool:
    """Return whether the exchange *record* may have changed something at the bank: one of a safe method has not."""
    return record.get("method") not in SAFE_METHODS


def asked_there(record: Mapping[str, Any], inquiries: Sequence[Record]) -> list[Record]:
    """Return those of *inquiries* that were made where the exchange *record* was sent, as the same client.

    Versions that did not record this asked by names: while one of them shares the log, it may ask somebody else.
    """
    return [one for one in inquiries if all(one.get(name, "") == record.get(name, "") for name in SENT_TO)]


def decisive(record: Mapping[str, Any], inquiries: Sequence[Record]) -> Record | None:
    """Return the inquiry that settles the outcome of the exchange *record*, None if none does.

    Once found is found. A "not found" counts only SETTLED_AFTER the end of the exchange: before that, the bank may
    still be working on it. Only inquiries count that were made where it was sent, as the same client.
    """
    inquiries = asked_there(record, inquiries)
    found = next((one for one in inquiries if one.get("verdict") == "found"), None)
    if found is not None:
        return found
    late = [one for one in inquiries if one.get("verdict") == "not_found" and is_late_enough(record, one)]
    return late[-1] if late else None


def is_late_enough(record: Mapping[str, Any], inquiry: Mapping[str, Any]) -> bool:
    """Return whether *inquiry* was made SETTLED_AFTER the exchange *record* had ended."""
    return (datetime.fromisoformat(str(inquiry["time"])) - ended_at(record)).total_seconds() >= SETTLED_AFTER


def ended_at(record: Mapping[str, Any]) -> datetime:
    """Return when the exchange *record* had ended for sure; raises KeyError, ValueError or TypeError for a part."""
    ended = datetime.fromisoformat(str(record["time"])) + timedelta(milliseconds=float(record.get("duration_ms") or 0))
    latest = max([ended, *(datetime.fromisoformat(str(one["started"])) for one in record.get("attempts") or ())])
    if "ended" in record:
        return max(latest, datetime.fromisoformat(str(record["ended"])))
    # An earlier payproxy did not record when the worker was gone, and its record has no duration.
    return latest + _LONGEST_EXCHANGE if record.get("note") == WORKER_ENDED else latest
