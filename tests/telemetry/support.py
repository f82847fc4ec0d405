"""Builders of what telemetry interprets."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import Sent
from proxy.request_summary import Attempt, Chosen, RequestSummary
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import (
    CallerStatus,
    ErrorStatus,
    SinkStatus,
    Status,
    TokenState,
    TokenStatus,
    WorkerState,
    WorkerStatus,
)


def an_attempt(*, upstream: str = "bank", credential: str = "login", **changes: Any) -> Attempt:
    """Return one send to *upstream*, with *changes*."""
    attempt = Attempt(
        1, chosen=Chosen(upstream=upstream, credential=credential), started_wall=0.0, token_fingerprint=""
    )
    values: dict[str, Any] = {"status": 200, "sent": Sent.YES, "wait_ms": 20.0}
    for name, value in (values | changes).items():
        setattr(attempt, name, value)
    return attempt


def an_exchange(*, route: str = "payments", sent: Sent = Sent.YES, **changes: Any) -> RequestSummary:
    """Return a finished exchange, with *changes*: 30 ms, 1 ms of them the proxy's; *sent* is of its only attempt."""
    chosen = Chosen(
        route=route, upstream=changes.pop("upstream", "bank"), credential=changes.pop("credential", "login")
    )
    account = RequestSummary("id", started=100.0, started_wall=0.0, client_address="127.0.0.1", method="GET")
    values: dict[str, Any] = {
        "finished": 100.03, "waited": 0.029, "status": 200, "origin": "bank", "attempts": [an_attempt(sent=sent)],
        "chosen": chosen,
    }  # fmt: skip
    for name, value in (values | changes).items():
        setattr(account, name, value)
    return account


def token(**changes: Any) -> TokenStatus:
    """Return a fresh token's status with *changes*."""
    values: dict[str, Any] = {
        "credential": "login",
        "audience": "jpm:uri:prod:payments",
        "state": TokenState.FRESH,
        "tried": True,
        "fingerprint": "0123456789abcdef",
        "seconds_left": 250.0,
        "minted": 1_800_000_000.0,
        "expires": 1_800_000_300.0,
    }
    return TokenStatus(**(values | changes))


def no_token(**changes: Any) -> TokenStatus:
    """Return the status of a slot that never had a token, with *changes*."""
    return token(state=TokenState.NONE, fingerprint="", seconds_left=0.0, minted=0.0, expires=0.0, **changes)


def worker(
    number: int = 1,
    *,
    pid: int = 1,
    state: WorkerState = WorkerState.SERVING,
    started: float = 0.0,
    full: bool = False,
    **said: Any,
) -> WorkerStatus:
    """Return a worker that *said* how many requests and connections it has."""
    return WorkerStatus(worker=number, pid=pid, state=state, started=started, full=full, **said)


def status(**changes: Any) -> Status:
    """Return a ready instance's status with *changes*."""
    values: dict[str, Any] = {
        "environment": "production",
        "instance": "host-1",
        "version": "1.2.3",
        "config_digest": "00112233445566aa",
        "uptime": 60.0,
        "workers_wanted": 1,
        "workers": (worker(),),
        "tokens": (token(),),
    }
    return Status(**(values | changes))


def sink(name: str = "stdout", **changes: Any) -> SinkStatus:
    """Return a sink that takes records, with *changes*."""
    values: dict[str, Any] = {"name": name, "backlog": 0, "dropped": 0, "failing": ""}
    return SinkStatus(**(values | changes))


def error_status(**changes: Any) -> ErrorStatus:
    """Return an error of the last hour, with *changes*."""
    values: dict[str, Any] = {
        "code": "upstream_timeout", "status": 0, "route": "payments", "count": 3, "last": 1_800_000_000.0,
        "caller": "erp", "id": "01a22238-4f7c-7e9a-ae97-e7b2631be206", "cause": "", "sent_upstream": "unknown",
    }  # fmt: skip
    return ErrorStatus(**(values | changes))


def caller_status(name: str = "erp", **changes: Any) -> CallerStatus:
    """Return a caller of the last hour, with *changes*."""
    values: dict[str, Any] = {
        "requests": 0, "fine": 0, "client_errors": 0, "failed": 0, "held_back": 0, "other": 0, "sent_unknown": 0,
        "last": 1_800_000_000.0,
    }  # fmt: skip
    return CallerStatus(name=name, **(values | changes))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape *metrics* and parse it back: (name, sorted labels) to value."""
    _, text = metrics.render("")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
