"""What is told of an exchange whose worker ended before it: made of its intents, which is all there is."""

from collections.abc import Sequence
from typing import Any

from proxy.errors import Sent
from proxy.records.line import line


def unknown_exchange(intents: Sequence[dict[str, Any]]) -> bytes:
    """Return the record of an exchange whose worker ended: nobody knows whether the bank acted on its last attempt."""
    first = intents[0]
    kept = {name: first[name] for name in _FROM_INTENT}
    last = len(intents) - 1
    attempts = [
        {
            "started": intent["started"],
            # A second attempt follows an answer that refused the token; which status it had died with the worker.
            "status": 0,
            "token_fingerprint": intent["token_fingerprint"],
            "sent": Sent.UNKNOWN if number == last else Sent.YES,
            "connect_ms": 0.0,
            "wait_ms": 0.0,
        }
        for number, intent in enumerate(intents)
    ]
    outcome = {
        "attempts": attempts,
        "status": 0,
        "origin": "proxy",
        "code": "",
        "cause": "",
        "sent_upstream": Sent.UNKNOWN,
        "replayed": last > 0,
        "note": "worker_ended",
        "caller_left": False,
        "duration_ms": 0.0,
        "overhead_ms": 0.0,
        "request_bytes": first["request_bytes"],
        "response_bytes": 0,
        "body_hmac": first.get("body_hmac", ""),
        "index": first["index"],
        "config_digest": first["config_digest"],
    }
    return line({"kind": "exchange", "id": first["id"], **kept, **outcome})


_FROM_INTENT = (
    "version",
    "time",
    "environment",
    "instance",
    "caller",
    "caller_proof",
    "client_address",
    "method",
    "route",
    "path",
    "query_keys",
    "upstream",
    "credential",
    "audience",
    "side",
    "why",
)
