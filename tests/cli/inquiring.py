"""An inquiry for the rule of a site, and requests to ask about."""

from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy, uuid7
from proxy.records.command_record import write_command_record
from proxy.records.record import RecordBuilder, RecordContext
from proxy.records.segment import JOURNALS, segment_path
from proxy.simulator.clients import AUDIENCES
from tests.cli.serving import Site
from tests.records.kept import MASK
from tests.records.support import an_attempt, an_exchange

INQUIRY = (
    'inquiry = {{path = "/payment/v2/payments?requestId={{Request-Id}}", '
    'found = {{status = 200, member = "payments"}}, not_found = {{status = 200, member = "payments"}}, '
    "automatic = {automatic}}}\n"
)
UNKNOWN: dict[str, Any] = {"status": 504, "origin": "proxy", "code": "upstream_timeout", "upstream": "bank"}


def leave_intent(place: Site, request_id: str, *, ago: float) -> str:
    """Leave the journal of a killed worker, with the intent of a request that was sent *ago* seconds; return its id."""
    began = SystemClock().now() - ago
    exchange = an_exchange(
        id=uuid7(SystemEntropy(), began), started_wall=began, upstream="bank", audience=AUDIENCES["payments"], side="",
        index=(("Request-Id", request_id),),
    )  # fmt: skip
    context = RecordContext(environment="client-testing", instance="here", config_digest="d")
    folder = place.config.parent / "payproxy-data" / JOURNALS
    folder.mkdir(mode=0o700, parents=True)
    intent = RecordBuilder(context, MASK).intent(exchange, an_attempt(side="", started_wall=began))
    segment_path(folder, "killed", 1).write_bytes(intent)
    return str(exchange.id)


def leave_record(place: Site, request_id: str, *, ago: float, instance: str = "here", **changes: Any) -> str:
    """Leave the record of an exchange that began *ago* seconds where the keeper finds it, and return its id."""
    began = SystemClock().now() - ago
    values: dict[str, Any] = {
        **UNKNOWN, "id": uuid7(SystemEntropy(), began), "started_wall": began, "audience": AUDIENCES["payments"],
        "attempts": [an_attempt(status=0, sent="unknown", started_wall=began)], "index": (("Request-Id", request_id),),
    }  # fmt: skip
    context = RecordContext(environment="client-testing", instance=instance, config_digest="d")
    exchange = an_exchange(**{**values, **changes})
    data = place.config.parent / "payproxy-data"
    write_command_record(data, RecordBuilder(context, MASK).exchange(exchange), entropy=SystemEntropy())
    return str(exchange.id)
