"""A collector that decodes what it gets with opentelemetry-proto, and answers as told."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(kw_only=True)
class Reply:
    """How the collector answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Collector:
    """What came, and how to answer: *replies* first, then 200."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, object]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0

    async def take(self, request: web.Request) -> web.Response:
        """Take a request; only what is answered with 2xx counts as taken."""
        body = await request.read()
        self.requests += 1
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        reply = self.replies.pop(0) if self.replies else Reply()
        if 200 <= reply.status < 300:
            if request.path.endswith("/v1/logs"):
                for of_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                    self.resources.append(attributes(of_logs.resource.attributes))
                    self.logs += [record for scope in of_logs.scope_logs for record in scope.log_records]
            else:
                for of_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append(attributes(of_spans.resource.attributes))
                    self.spans += [span for scope in of_spans.scope_spans for span in scope.spans]
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


def attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Return attributes by name."""
    found: dict[str, object] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found


@contextlib.asynccontextmanager
async def collector(*replies: Reply) -> AsyncIterator[Collector]:
    """Run a collector on loopback."""
    it = Collector(replies=list(replies))
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/v1/{signal}", it.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield it
    finally:
        await runner.cleanup()
