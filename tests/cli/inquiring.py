"""An inquiry for the rule of a site, and requests to ask about."""

from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy, uuid7
from proxy.records.chain_id import read_chain_id
from proxy.records.command_record import write_command_record
from proxy.records.record import RecordBuilder, RecordContext
from proxy.records.segment import JOURNALS, segment_path
from proxy.routing.compile import route_table
from proxy.settings.values import snapshot_of
from proxy.simulator.clients import AUDIENCES
from tests.cli.serving import Site
from tests.records.kept import MASK
from tests.records.support import an_attempt, an_exchange
from tests.settings.support import load_text

INQUIRY = (
    'inquiry = {{path = "/payment/v2/payments?requestId={{Request-Id}}", '
    'found = {{status = 200, member = "payments"}}, not_found = {{status = 200, member = "payments"}}, '
    "automatic = {automatic}}}\n"
)
UNKNOWN: dict[str, Any] = {"status": 504, "origin": "proxy", "code": "upstream_timeout", "upstream": "bank"}


def leave_intent(place: Site, request_id: str, *, ago: float) -> str:
    """Leave the journal of a killed worker, with the intent of a request that was sent *ago* seconds; return its id."""
    began = SystemClock().now() - ago
    values: dict[str, Any] = {
        **sent_to(place), "id": uuid7(SystemEntropy(), began), "started_wall": began, "upstream": "bank", "side": "",
        "audience": AUDIENCES["payments"], "index": (("Request-Id", request_id),),
    }  # fmt: skip
    exchange = an_exchange(**values)
    context = RecordContext(environment="client-testing", instance="here", config_digest="d")
    folder = place.config.parent / "payproxy-data" / JOURNALS
    folder.mkdir(mode=0o700, parents=True)
    intent = RecordBuilder(context, MASK).intent(exchange, an_attempt(side="", started_wall=began))
    segment_path(folder, "killed", 1).write_bytes(intent)
    return str(exchange.id)


def leave_record(place: Site, request_id: str, *, ago: float, chain: str = "", **changes: Any) -> str:
    """Leave the record of an exchange that began *ago* seconds where the keeper finds it, and return its id.

    It was sent as the site's configuration says, in *chain*, "" for that of the site.
    """
    data = place.config.parent / "payproxy-data"
    began = SystemClock().now() - ago
    values: dict[str, Any] = {
        **UNKNOWN, **sent_to(place), "id": uuid7(SystemEntropy(), began), "started_wall": began,
        "audience": AUDIENCES["payments"],
        "attempts": [an_attempt(status=0, sent="unknown", started_wall=began)], "index": (("Request-Id", request_id),),
    }  # fmt: skip
    chain = chain or read_chain_id(data)
    context = RecordContext(environment="client-testing", instance="here", config_digest="d", chain=chain)
    exchange = an_exchange(**{**values, **changes})
    write_command_record(data, RecordBuilder(context, MASK).exchange(exchange), entropy=SystemEntropy())
    return str(exchange.id)


def sent_to(place: Site) -> dict[str, str]:
    """Return where the site's rule sends, and as which client."""
    loaded = load_text(place.folder, place.config.read_text())
    assert loaded.settings is not None, list(map(str, loaded.findings))
    [route] = route_table(snapshot_of(loaded.settings, instance="here")).routes
    return {"upstream_url": route.own.url, "client_digest": route.own.token_key.client_digest}
