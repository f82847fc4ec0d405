"""Records of exchanges whose worker ended before them, made from their intents, the only source left.

Also the exchanges whose retry must go to the same side, since it is unknown whether the bank acted on them.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from proxy.clock import timestamp
from proxy.errors import MALFORMED, Sent
from proxy.records.json_line import EXCHANGE, line


def unanswered_records(intents: Sequence[bytes], *, ended: float) -> list[bytes]:
    """Return the record of an exchange whose worker ended, from the lines of its *intents*, without line feed.

    *ended* is as in `unanswered_exchange`. If a failing disk has changed the lines, return these: a send is never left
    out.
    """
    try:
        return [unanswered_exchange([json.loads(intent) for intent in intents], ended=ended)[:-1]]
    except MALFORMED:
        return [intent.rstrip(b"\n") for intent in intents]


def route_of(record: bytes) -> str:
    """Return the route in the line *record*, "" if a failing disk has changed it."""
    try:
        return str(json.loads(record)["route"])
    except MALFORMED:
        return ""


def requests_of(record: bytes) -> int:
    """Return how many requests the line *record* of a worker's journal stands for: it may say that some were lost."""
    if record.startswith(EXCHANGE):
        return 1
    try:
        return min(max(0, int(json.loads(record).get("count", 0))), MOST_REQUESTS)
    except MALFORMED:
        return 0


def lost_in(records: Sequence[bytes]) -> int:
    """Return how many records are lost, as `records_lost` among the lines *records* says."""
    return sum(requests_of(one) for one in records if one.startswith(LIFECYCLE) and RECORDS_LOST in one)


def unanswered_exchange(intents: Sequence[dict[str, Any]], *, ended: float) -> bytes:
    """Return the record of an exchange whose worker ended: whether the bank acted on the last attempt is unknown.

    *ended*, in epoch seconds, is when the worker was known to be gone. How long the exchange took is not known, but it
    was over by then.
    """
    first, last = intents[0], intents[-1]
    # A second attempt may have gone to the other side of a migration.
    kept = {name: first[name] for name in _FROM_FIRST}
    # The intent of an earlier payproxy does not have SENT_TO.
    kept |= {name: last[name] for name in _FROM_LAST if name in last or name not in SENT_TO}
    # Each later intent holds the outcome of the attempt before it; that of an earlier payproxy does not.
    attempts = [later.get("previous") or _attempt(one, Sent.YES) for one, later in pairwise(intents)]
    attempts.append(_attempt(last, Sent.UNKNOWN))
    outcome: dict[str, Any] = {
        "attempts": attempts,
        "status": 0,
        "origin": "proxy",
        "code": "",
        "cause": "",
        "sent_upstream": Sent.UNKNOWN,
        "replayed": len(intents) > 1,
        "note": WORKER_ENDED,
        "caller_left": False,
        "ended": timestamp(ended),
        "duration_ms": 0.0,
        "overhead_ms": 0.0,
        "request_bytes": first["request_bytes"],
        "response_bytes": 0,
        "body_hmac": first.get("body_hmac", ""),
        "config_digest": first["config_digest"],
    }
    if "signature" in first:
        outcome["signature"] = first["signature"]
    if "retry" in first:
        outcome["retry"] = first["retry"]
    return line({"kind": "exchange", "id": first["id"], **kept, **outcome})


def _attempt(intent: dict[str, Any], sent: Sent) -> dict[str, Any]:
    """Return the attempt of *intent* as a record has it, as far as it is known."""
    return {
        "started": intent["started"],
        "status": 0,
        "token_fingerprint": intent["token_fingerprint"],
        "sent": sent,
        "connect_ms": 0.0,
        "wait_ms": 0.0,
    } | ({"side": intent["side"]} if intent["side"] else {})


def is_uncertain(record: Mapping[str, Any]) -> bool:
    """Return whether the bank may have executed the exchange of *record* and its caller can't know."""
    sent = record["sent_upstream"]
    delivered = record["status"] < 500 and not (record["code"] or record["caller_left"])
    return bool(sent != Sent.NO and not (sent == Sent.YES and delivered))


def uncertain(text: bytes) -> dict[str, Any] | None:
    """Return members of the exchange in the line *text* if its retry must go to the same side, else None.

    That is the case for an intent without record, or a record that is unknown, has a 5xx of the bank or did not reach
    its caller, if there is a retry key; `reason` is "unknown" or "answered". It is "in_flight" if all went well: the
    answer may still be lost on its way to the caller, so *ended* (epoch seconds) decides until when that matters. A
    line that a failing disk has changed returns None.
    """
    if RETRY not in text:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        sent = record["sent_upstream"] if record["kind"] == "exchange" else None
        if "retry" not in record or sent == Sent.NO:  # without it a header of that name is in its index
            return None
        found = {name: record[name] for name in ("retry", "side", "upstream", "time", "route")}
        if sent == Sent.YES and not is_uncertain(record):
            started = datetime.fromisoformat(record["time"]).timestamp()
            ended = started + record["duration_ms"] / 1000
            # Also false for NaN; beyond it the ten seconds of an answer on its way are less than a float's precision.
            return found | {"reason": "in_flight", "ended": ended} if 0 <= ended < 1e12 else None
        # Otherwise it is an intent alone, or a response cut short or not delivered: the bank may have acted on it.
        answered = sent == Sent.YES and not (record["caller_left"] or record["code"])
        return found | {"reason": "answered" if answered else "unknown"}
    except MALFORMED:
        return None


# The note of a record that was made from intents.
WORKER_ENDED = "worker_ended"
# That one record of lost records can stand for: more than a worker begins in a year.
MOST_REQUESTS = 10**12
LIFECYCLE = b'{"kind":"lifecycle","id":"'
# Quotes in values are escaped, so that this matches the member only.
RECORDS_LOST = b'"event":"records_lost"'
# In a line whose exchange must be recognised when it is retried.
RETRY = b',"retry":"'

_FROM_FIRST = (
    *("version", "time", "environment", "instance", "caller", "caller_proof", "client_address", "method", "route"),
    *("path", "query_keys"),
)
# Where a request was sent and as which client: whoever else is asked may not know of it.
SENT_TO = ("upstream_url", "client_digest")
_FROM_LAST = ("upstream", "upstream_url", "credential", "client_digest", "audience", "side", "why", "index")
