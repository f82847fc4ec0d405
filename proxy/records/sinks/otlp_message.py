"""Convert records to OTLP: a log record each, and per exchange a span with one child per attempt (`[otel]` extra)."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from proxy.errors import MALFORMED
from proxy.records.sinks.otlp_target import Signal
from proxy.records.sinks.row import decode

Record = dict[str, Any]

_SCOPE = InstrumentationScope(name="payproxy")

TRACE_ID_BYTES = 16

# OpenTelemetry's names where they exist (semantic conventions for HTTP), ours for the rest.
_ATTRIBUTES: Mapping[str, str] = {
    "method": "http.request.method",
    "route": "http.route",
    "path": "url.path",
    "status": "http.response.status_code",
    "client_address": "client.address",
    "request_bytes": "http.request.body.size",
    "response_bytes": "http.response.body.size",
    "code": "error.type",
}
_OWN = (
    "id", "kind", "event", "sequence", "caller", "caller_proof", "upstream", "credential", "audience", "side", "why",
    "origin", "sent_upstream", "replayed", "note", "caller_left", "overhead_ms", "config_digest", "token_fingerprint",
    "who", "what", "reason",
)  # fmt: skip


def encoded(signal: Signal, batch: Iterable[bytes]) -> tuple[int, bytes]:
    """Return the number of items in *batch* for *signal*, and the request with them.

    The body of a log record is the exact bytes of the record, so that its chain can be checked. Exchanges are spans.
    """
    grouped: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for line, record in _readable(batch):
        items = grouped[str(record.get("instance", "")), str(record.get("environment", ""))]
        if signal is Signal.LOGS:
            items.append(_log_record(line, record))
        elif record.get("kind") == "exchange":
            with contextlib.suppress(*MALFORMED):
                items += list(_spans(record))
    resources = [(_resource(*whose), items) for whose, items in grouped.items() if items]
    request: ExportLogsServiceRequest | ExportTraceServiceRequest
    if signal is Signal.LOGS:
        request = ExportLogsServiceRequest(
            resource_logs=[
                ResourceLogs(resource=resource, scope_logs=[ScopeLogs(scope=_SCOPE, log_records=items)])
                for resource, items in resources
            ]
        )
    else:
        request = ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=_SCOPE, spans=items)])
                for resource, items in resources
            ]
        )
    return sum(len(items) for _, items in resources), request.SerializeToString()


def trace_id(record_id: str) -> bytes:
    """Return the trace id of a record: the 16 bytes of its id."""
    return bytes.fromhex(record_id.replace("-", ""))


def span_id(record_id: str, attempt: int = 0) -> bytes:
    """Return the span id of the exchange, or of its *attempt*."""
    return sha256(f"{record_id}/{attempt}".encode()).digest()[:8]


def _readable(batch: Iterable[bytes]) -> Iterator[tuple[bytes, Record]]:
    """Yield the records that can be parsed; `logs verify` reports the others."""
    for line in batch:
        try:
            record = decode(line)
            if len(trace_id(record["id"])) != TRACE_ID_BYTES:
                # A collector refuses the whole batch.
                continue
            _nanoseconds(record["time"])
        except MALFORMED:
            continue
        yield line, record


def _log_record(line: bytes, record: Record) -> LogRecord:
    """Return the log record of *line*; only its body, if a member has a value that a payproxy does not write."""
    body = AnyValue(string_value=line.decode(errors="replace"))
    try:
        severity, text = _severity(record)
        made = LogRecord(
            time_unix_nano=_nanoseconds(record["time"]),
            severity_number=severity,
            severity_text=text,
            body=body,
            attributes=_attributes(record),
            event_name=f"payproxy.{_utf8(record.get('kind', ''))}",
        )
    except MALFORMED:
        return LogRecord(body=body)
    if record.get("kind") == "exchange":
        made.trace_id = trace_id(record["id"])
        made.span_id = span_id(record["id"])
    return made


def _spans(record: Record) -> Iterator[Span]:
    id_, begin = record["id"], _nanoseconds(record["time"])
    yield Span(
        trace_id=trace_id(id_),
        span_id=span_id(id_),
        name=f"{record['method']} {record['route']}".strip(),
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=begin,
        end_time_unix_nano=begin + _milliseconds(record["duration_ms"]),
        attributes=_attributes(record),
        # For a server span only 5xx is an error (semantic conventions for HTTP spans).
        status=_failed(record["status"] >= 500 or record["sent_upstream"] == "unknown", record["code"]),
    )
    for number, attempt in enumerate(record["attempts"], start=1):
        started = _nanoseconds(attempt["started"])
        yield Span(
            trace_id=trace_id(id_),
            span_id=span_id(id_, number),
            parent_span_id=span_id(id_),
            name=record["method"],
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=started,
            end_time_unix_nano=started + _milliseconds(attempt["wait_ms"]),
            attributes=[
                _pair("http.request.method", record["method"]),
                _pair("http.response.status_code", attempt["status"]),
                _pair("http.request.resend_count", number - 1),
                _pair("payproxy.sent", attempt["sent"]),
                _pair("payproxy.connect_ms", attempt["connect_ms"]),
                _pair("payproxy.token_fingerprint", attempt["token_fingerprint"]),
                _pair("payproxy.upstream", record["upstream"]),
            ],
            status=_failed(attempt["status"] >= 400 or attempt["sent"] == "unknown", ""),
        )


def _failed(failed: bool, message: str) -> Status:  # noqa: FBT001 - the question is the function's whole subject
    return Status(code=Status.STATUS_CODE_ERROR, message=message) if failed else Status()


def _severity(record: Record) -> tuple[SeverityNumber.ValueType, str]:
    status = record.get("status", 0)
    failed = record.get("kind") == "exchange" and (status >= 500 or record.get("sent_upstream") == "unknown")
    if failed or record.get("event") == "records_lost":
        return SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"
    if record.get("event") in {"refused", "unavailable"} or (status >= 400 and record.get("origin") == "proxy"):
        return SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"
    return SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"


def _attributes(record: Record) -> list[KeyValue]:
    """Return the attributes that people search by; empty fields are left out."""
    pairs = [_pair(name, record[own]) for own, name in _ATTRIBUTES.items() if record.get(own)]
    pairs += [_pair(f"payproxy.{own}", record[own]) for own in _OWN if record.get(own)]
    pairs += [_pair(f"payproxy.index.{name}", value) for name, value in (record.get("index") or {}).items()]
    answered = record.get("answer_index") or {}
    pairs += [_pair(f"payproxy.answer_index.{name}", value) for name, value in answered.items()]
    return pairs


def _pair(name: str, value: Any) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=name, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=_utf8(value)))


def _utf8(value: Any) -> str:
    """Return *value* as text without lone surrogates, which protobuf has no bytes for."""
    return str(value).encode(errors="backslashreplace").decode()


def _resource(instance: str, environment: str) -> Resource:
    return Resource(
        attributes=[
            _pair("service.name", "payproxy"),
            _pair("service.instance.id", instance),
            _pair("deployment.environment.name", environment),
        ]
    )


def _nanoseconds(time: str) -> int:
    """Return RFC 3339 *time* as nanoseconds since the epoch."""
    at = datetime.fromisoformat(time)
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _milliseconds(number: float) -> int:
    return int(number * 1_000_000)
