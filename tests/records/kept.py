"""Records as the stream hands them to sinks: numbered and chained."""

import json
from collections.abc import Iterable
from typing import Any

from proxy.clock import timestamp
from proxy.entropy import SystemEntropy, uuid7
from proxy.records.chain import GENESIS, chained
from proxy.records.json_line import line
from proxy.records.mask import Mask
from proxy.records.record import RecordBuilder
from tests.records.support import CHOICE, CONTEXT, NOW, an_exchange

MASK = Mask(b"k" * 32)


def record(at: float = NOW, **values: Any) -> bytes:
    """Return the record of an exchange that began *at* epoch seconds, not yet in a chain."""
    exchange = an_exchange(**{"id": uuid7(SystemEntropy(), at), "started_wall": at, **values})
    return RecordBuilder(CONTEXT, MASK).exchange(exchange)[:-1]


def operation(at: float = NOW, *, what: str = "rollback") -> bytes:
    """Return the record of an operation."""
    facts = {"kind": "operation", "id": uuid7(SystemEntropy(), at), "time": timestamp(at), "instance": "host-1"}
    return line({**facts, "who": "anna", "what": what, "reason": "too slow"})[:-1]


def inquiry(exchange: str, at: float = NOW, *, verdict: str = "found", **changes: str) -> bytes:
    """Return the record of an inquiry about *exchange*, made where it was sent."""
    facts = {"kind": "inquiry", "id": uuid7(SystemEntropy(), at), "time": timestamp(at), "instance": "host-1"}
    asked = {"verdict": verdict, "who": "anna", "asked": "GET /p?id=1", "answer_status": 200, "cause": ""}
    there = {name: CHOICE[name] for name in ("upstream_url", "client_digest")}
    return line({**facts, **asked, **there, **changes, "index": {"exchange": exchange}})[:-1]


def kept(records: Iterable[bytes]) -> list[bytes]:
    """Return *records* as the sinks get them."""
    return chained(list(records), sequence=0, previous_hash=GENESIS)[0]


def id_of(text: bytes) -> bytes:
    """Return the bytes of the record's id."""
    return bytes.fromhex(json.loads(text)["id"].replace("-", ""))
