import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.clock import SystemClock
from proxy.errors import Sent
from proxy.records.chain import link_of
from proxy.records.sinks import otlp_message
from proxy.records.sinks.otlp import LONGEST_RETRY_SECONDS, OtlpSink, otlp_sinks
from proxy.records.sinks.otlp_message import span_id, trace_id
from proxy.records.sinks.otlp_target import Signal, Target, targets
from proxy.records.sinks.row import plain_decoder
from proxy.records.sinks.sink import SinkUnavailable
from tests.records.chains import Writer, whole
from tests.records.sinks.collector import Collector, Reply, attributes, collector
from tests.records.support import an_attempt, an_exchange, complete, open_journal, running_shipper, until
from tests.support.clock import ManualClock

SECRET = "Bearer not-to-be-seen"


def target(url: str, signal: Signal = Signal.LOGS) -> Target:
    """Return a target for *signal* with a secret header."""
    environ = {
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": f"{url}/v1/{signal}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5000",
    }
    return targets(environ)[0]


@contextlib.asynccontextmanager
async def sink_to(
    it: Collector, signal: Signal = Signal.LOGS, clock: ManualClock | None = None
) -> AsyncIterator[OtlpSink]:
    """Yield a sink for *signal*."""
    sink = OtlpSink(target(it.url, signal), clock=clock or ManualClock())
    try:
        yield sink
    finally:
        await sink.close()


async def test_every_record_is_a_log_record(tmp_path: Path) -> None:
    """Its body is the record to the byte, so that the chain can be checked there too."""
    lines = whole(tmp_path)
    async with collector() as it, sink_to(it) as sink:
        await sink.write(lines)

    assert [record.body.string_value.encode() for record in it.logs] == lines
    assert all(link_of(record.body.string_value.encode()) for record in it.logs)
    assert [record.event_name for record in it.logs][:2] == ["payproxy.lifecycle", "payproxy.exchange"]
    [resource] = it.resources
    assert resource == {
        "service.name": "payproxy", "service.instance.id": "host-1", "deployment.environment.name": "mock"
    }  # fmt: skip
    assert it.headers[0]["content-type"] == "application/x-protobuf"
    assert it.headers[0]["authorization"] == SECRET
    assert sink.dropped == 0


async def test_a_log_record_can_be_searched(tmp_path: Path) -> None:
    """Time, severity, trace and what people ask for stand beside the body."""
    exchange = an_exchange(status=502, origin="proxy", code="upstream_reset", sent=Sent.UNKNOWN)
    async with (
        collector() as it,
        open_journal(tmp_path) as journal,
        running_shipper(tmp_path, OtlpSink(target(it.url), clock=SystemClock())),
    ):
        await complete(journal, exchange)
        await until(lambda: it.logs)

    [record] = it.logs
    assert record.time_unix_nano == 1_800_000_000_123_456_000
    assert record.severity_text == "ERROR"
    assert record.trace_id == bytes.fromhex(exchange.id.replace("-", ""))
    found = attributes(record.attributes)
    assert found["http.response.status_code"] == 502
    assert (found["payproxy.caller"], found["payproxy.sent_upstream"]) == ("erp", "unknown")
    assert (found["error.type"], found["payproxy.sequence"]) == ("upstream_reset", 1)


async def test_an_exchange_is_a_span_with_its_attempts_as_children(tmp_path: Path) -> None:
    """Parent, times and outcome of each; other records have none."""
    writer = Writer(tmp_path).start()
    exchange = an_exchange(
        attempts=[an_attempt(status=401, wait_ms=3.0), an_attempt(number=2, wait_ms=7.5)], replayed=True
    )
    writer.put(writer._builder.exchange(exchange)[:-1])
    async with collector() as it, sink_to(it, Signal.TRACES) as sink:
        await sink.write(writer.stop().lines)

    parent, refused, second = it.spans
    assert {span.trace_id for span in it.spans} == {trace_id(exchange.id)}
    assert (parent.span_id, parent.parent_span_id) == (span_id(exchange.id), b"")
    assert [child.parent_span_id for child in (refused, second)] == [parent.span_id] * 2
    assert len({span.span_id for span in it.spans}) == 3
    assert (parent.kind, refused.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert (parent.name, refused.name) == ("POST payments", "POST")
    assert parent.end_time_unix_nano - parent.start_time_unix_nano == 12_500_000
    assert second.end_time_unix_nano - second.start_time_unix_nano == 7_500_000
    assert [span.status.code for span in it.spans] == [
        Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET
    ]  # fmt: skip
    assert attributes(refused.attributes)["http.response.status_code"] == 401
    assert attributes(second.attributes)["http.request.resend_count"] == 1


async def test_nothing_is_sent_where_there_is_no_span(tmp_path: Path) -> None:
    """Records of the keeper's life alone are no request."""
    async with collector() as it, sink_to(it, Signal.TRACES) as sink:
        await sink.write(Writer(tmp_path).start().stop().lines)

    assert it.requests == 0


@pytest.mark.parametrize("status", [401, 404, 429, 502, 503, 504])
async def test_what_may_pass_is_offered_again(tmp_path: Path, status: int) -> None:
    """The batch is not lost, and nothing counts as dropped."""
    lines = whole(tmp_path)
    async with collector(Reply(status=status)) as it, sink_to(it) as sink:
        with pytest.raises(SinkUnavailable, match=str(status)):
            await sink.write(lines)
        await sink.write(lines)

        assert len(it.logs) == len(lines)
        assert sink.dropped == 0


@pytest.mark.parametrize(("wish", "seconds"), [("7", 7), ("date", 30), ("999999", LONGEST_RETRY_SECONDS), ("soon", 0)])
async def test_a_collector_is_left_alone_as_long_as_it_wants(tmp_path: Path, wish: str, seconds: float) -> None:
    """Retry-After in seconds or as a date, within a bound; meanwhile it is not even asked."""
    clock = ManualClock()
    if wish == "date":
        wish = format_datetime(datetime.fromtimestamp(clock.now() + 30, UTC), usegmt=True)
    lines = whole(tmp_path)
    async with (
        collector(Reply(status=503, headers={"Retry-After": wish})) as it,
        sink_to(it, clock=clock) as sink,
    ):
        with pytest.raises(SinkUnavailable):
            await sink.write(lines)
        if seconds:
            await clock.advance(seconds - 1)
            with pytest.raises(SinkUnavailable, match="asked to wait"):
                await sink.write(lines)
            assert it.requests == 1
            await clock.advance(1)
        await sink.write(lines)

        assert len(it.logs) == len(lines)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_will_never_be_taken_is_dropped_and_counted(tmp_path: Path, status: int) -> None:
    """A batch that the collector can't read must not hold up all that follow."""
    lines = whole(tmp_path)
    async with collector(Reply(status=status)) as it, sink_to(it) as sink:
        await sink.write(lines)
        await sink.write(lines[:2])

        assert sink.dropped == len(lines)
        assert len(it.logs) == 2


async def test_a_partial_success_counts_what_was_rejected(tmp_path: Path) -> None:
    """It is not offered again (OTLP specification)."""
    partial = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=3))
    async with collector(Reply(body=partial.SerializeToString())) as it, sink_to(it) as sink:
        await sink.write(whole(tmp_path))

        assert sink.dropped == 3
        assert it.requests == 1


async def test_an_answer_that_is_no_otlp_is_an_answer(tmp_path: Path) -> None:
    """2xx is what counts."""
    async with collector(Reply(body=b"\xff" * 100), Reply(body=b"x" * 10_000_000)) as it, sink_to(it) as sink:
        await sink.write(whole(tmp_path))
        await sink.write(whole(tmp_path))

        assert sink.dropped == 0
        assert it.requests == 2


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """Headers with a secret go to nobody else."""
    async with collector() as other, collector(Reply(status=307, headers={"Location": f"{other.url}/v1/logs"})) as it:
        async with sink_to(it) as sink:
            await sink.write(whole(tmp_path))

        assert other.requests == 0


async def test_a_collector_that_is_away_says_so_without_the_headers(tmp_path: Path) -> None:
    """The message names the host and what happened."""
    async with collector() as it:
        gone = it.url
    sink = OtlpSink(target(gone), clock=ManualClock())
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1 can't be reached") as caught:
        await sink.write(whole(tmp_path))
    await sink.close()

    assert "not-to-be-seen" not in repr(caught.value) + repr(sink)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_what_is_broken_is_passed_over(tmp_path: Path) -> None:
    """It stays for `logs verify` to name."""
    broken = [b"", b"{}", b"[]", b'{"id":"x","time":"y"}', b'{"id":null,"time":"2027-01-15T08:00:00Z"}']
    async with collector() as it, sink_to(it) as sink:
        await sink.write([*broken, *whole(tmp_path)])

        assert len(it.logs) == 19


@pytest.mark.parametrize(
    ("honest", "forged"),
    [
        (b'"index":{}', b'"index":[1]'),
        (b'"status":200', b'"status":"200"'),
        (b'"status":200', b'"status":%d' % 2**70),
        (b'"time":"20', b'"time":"00'),
        (b'"caller":"erp"', b'"caller":"\\u0000\\ud800"'),
        (b'"index":{}', b'"index":{"\\udfff":"1"}'),
    ],
)
async def test_a_value_that_no_attribute_can_have_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bytes, forged: bytes
) -> None:
    """A worker that was taken over may write it: at least the body tells the record."""
    monkeypatch.setattr(otlp_message, "decode", plain_decoder)
    [good] = Writer(tmp_path).exchanges(1).lines
    odd = good.replace(honest, forged, 1)
    assert odd != good
    async with collector() as it:
        for signal in Signal:
            async with sink_to(it, signal) as sink:
                await sink.write([good, odd, good])

        assert [one.body.string_value for one in it.logs] == [text.decode() for text in (good, odd, good)]
        assert len(it.spans) >= 4


async def test_an_id_that_would_cost_the_batch_is_passed_over(tmp_path: Path) -> None:
    """A collector takes no trace id of another length, nor anything beside it."""
    [good] = Writer(tmp_path).exchanges(1).lines
    short = re.sub(rb'"id":"[^"]*"', b'"id":"abcd"', good)
    async with collector() as it, sink_to(it) as sink:
        await sink.write([good, short, good])

        assert [len(one.trace_id) for one in it.logs] == [16, 16]


async def test_an_exchange_that_cannot_be_told_is_no_span(tmp_path: Path) -> None:
    """A member whose name a disk has changed holds up nothing, and those around it are told."""
    [good] = Writer(tmp_path).exchanges(1).lines
    async with collector() as it, sink_to(it, Signal.TRACES) as sink:
        await sink.write([good, good.replace(b'"duration_ms"', b'"duration_mS"'), good])

        assert len(it.spans) == 4


async def test_with_the_shipper_an_outage_loses_nothing(tmp_path: Path) -> None:
    """Both signals, each by itself: one refuses for a while, in the end both have everything in order."""
    exchanges = [an_exchange() for _ in range(40)]
    async with collector(*[Reply(status=503)] * 3) as it, open_journal(tmp_path) as journal:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": it.url}
        async with running_shipper(tmp_path, *otlp_sinks(targets(environ), clock=SystemClock())) as shipper:
            for exchange in exchanges:
                await complete(journal, exchange)
            await until(lambda: len(it.logs) >= 40 and len(it.spans) >= 80)
            assert {one.name: one.dropped for one in shipper.sinks} == {"otlp-logs": 0, "otlp-traces": 0}

    assert [json.loads(record.body.string_value)["id"] for record in it.logs] == [one.id for one in exchanges]
