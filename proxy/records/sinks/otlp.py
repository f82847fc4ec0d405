"""Sink to a collector by OTLP/HTTP with protobuf, one sink per signal (`[otel]` extra)."""

import asyncio
from contextlib import suppress
from email.utils import parsedate_to_datetime

import aiohttp
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from proxy.clock import Clock
from proxy.records.sinks.otlp_message import encoded
from proxy.records.sinks.otlp_target import Signal, Target
from proxy.records.sinks.sink import Sink, SinkUnavailable
from proxy.upstream.tls import client_context

_ANSWER_BYTES = 65536
# A longer Retry-After is cut to this: meanwhile the spool fills.
LONGEST_RETRY_SECONDS = 300.0
# Retryable (OTLP specification), or errors that a person can fix: nothing is lost until then.
_LATER = frozenset({401, 403, 404, 407, 408, 429, 502, 503, 504})


class OtlpSink:
    """Posts each batch to *target*. `dropped` counts the records that the collector refuses for good."""

    def __init__(self, target: Target, *, clock: Clock) -> None:
        self.name = f"otlp-{target.signal}"
        self.dropped = 0
        self._target = target
        self._clock = clock
        self._not_before = 0.0
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<OtlpSink {self._target.signal} to {self._target.host}>"

    async def write(self, batch: list[bytes]) -> None:
        """Post *batch*; returns after the collector has accepted or refused all of it."""
        wait = self._not_before - self._clock.monotonic()
        if wait > 0:
            raise SinkUnavailable(f"{self._target.host} asked to wait {wait:.0f} s more")
        # Not on the loop: some 100 us a record.
        number, data = await asyncio.to_thread(encoded, self._target.signal, batch)
        if number:
            await self._post(number, data)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, number: int, data: bytes) -> None:
        target = self._target
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=client_context()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=target.timeout),
            )
        headers = {name: value.reveal() for name, value in target.headers}
        headers["Content-Type"] = "application/x-protobuf"
        try:
            async with self._session.post(target.url, data=data, headers=headers, allow_redirects=False) as response:
                status, retry_after = response.status, response.headers.get("Retry-After", "")
                body = await response.content.read(_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # Their texts may contain the request's headers.
            raise SinkUnavailable(f"{target.host} can't be reached: {type(error).__name__}") from None
        if status in _LATER:
            self._not_before = self._clock.monotonic() + self._wished(retry_after)
            raise SinkUnavailable(f"{target.host} answered {status}")
        self.dropped += number if not 200 <= status < 300 else min(number, _rejected(target.signal, body))

    def _wished(self, retry_after: str) -> float:
        """Return the seconds to wait by Retry-After (RFC 9110 10.2.3)."""
        seconds = 0.0
        if retry_after.isdecimal():
            seconds = float(retry_after)
        elif retry_after:
            with suppress(ValueError, OverflowError):
                seconds = parsedate_to_datetime(retry_after).timestamp() - self._clock.now()
        return min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)


def otlp_sinks(targets: tuple[Target, ...], *, clock: Clock) -> list[Sink]:
    """Return a sink for each of *targets*."""
    return [OtlpSink(target, clock=clock) for target in targets]


def _rejected(signal: Signal, body: bytes) -> int:
    """Return the number of items that the collector rejected (partial success); 0 if its answer is not OTLP."""
    try:
        if signal is Signal.LOGS:
            return ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records
        return ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
    except DecodeError:
        return 0
