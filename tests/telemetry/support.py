"""Builders of what telemetry interprets."""

from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import Sent
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status, TokenState, TokenStatus, WorkerState, WorkerStatus


@dataclass(kw_only=True)
class Attempt:
    """One send."""

    status: int = 200
    sent: Sent = Sent.YES
    wait_ms: float = 20.0
    upstream: str = "bank"
    credential: str = "login"


@dataclass(kw_only=True)
class Exchange:
    """A finished exchange: 30 ms, of which the proxy's own share was 1 ms."""

    began: float = 100.0
    finished: float = 100.03
    waited: float = 0.029
    method: str = "GET"
    route: str = "payments"
    upstream: str = "bank"
    credential: str = "login"
    status: int = 200
    code: str = ""
    origin: str = "bank"
    sent_upstream: Sent = Sent.YES
    replayed: bool = False
    note: str = ""
    attempts: list[Attempt] = field(default_factory=lambda: [Attempt()])


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
    number: int = 1, *, pid: int = 1, state: WorkerState = WorkerState.SERVING, started: float = 0.0
) -> WorkerStatus:
    """Return a worker."""
    return WorkerStatus(worker=number, pid=pid, state=state, started=started)


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


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape *metrics* and parse it back: (name, sorted labels) to value."""
    _, text = metrics.render("")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
