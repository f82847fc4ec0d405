"""The keeper's metrics: its own events, its status and the workers' counters, in a registry of their own."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from proxy.errors import ProxyError, Sent
from proxy.events import ClockSkewMeasured, Event, MintFailed, OutcomeUnknown, RecordsLost, TokenAdopted, TokenMinted
from proxy.link.counts import Counts
from proxy.migration.outcome import OUTCOMES
from proxy.migration.side import Side
from proxy.telemetry.counters import DURATION_BOUNDS, OTHER, OVERHEAD_BOUNDS, REFUSED_CERTIFICATES, REPLAY_OUTCOMES, Row
from proxy.telemetry.gauges import Key, counter, gauge, gauges, histogram
from proxy.telemetry.status import Status, WorkerStatus

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Rows of one kind. Real traffic needs methods x routes x statuses; what a faulty worker invents ends in one row.
MAX_ROWS = 10_000

_MINT_OUTCOMES = ("minted", "token_refused", "token_unavailable")
SIGNATURE_OUTCOMES = ("signed", "failed", "late", "overloaded", "unanswered")
# The codes of the facade's token endpoint are OAuth's (RFC 6749 5.2).
_FACADE_CODES = ("invalid_client", "invalid_request", "unsupported_grant_type")


class CountsUnusable(ValueError):
    """A worker sent histograms with other buckets; nothing was counted."""


class Metrics(Collector):
    """All metrics of /metrics; each scrape calls *status*, so no gauge outlives its subject.

    *counted* is called with what a worker counted, once it is found to be well-formed.
    """

    def __init__(
        self, *, status: Callable[[], Status], counted: Callable[[Counts], None] = lambda _counts: None
    ) -> None:
        self._status = status
        self._counted = counted
        self._tables: defaultdict[str, dict[Key, Row]] = defaultdict(dict)
        self._skews: dict[str, float] = {}
        self._processes = ProcessReader()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def observe(self, event: Event) -> None:
        """Count *event*, from the keeper."""
        match event:
            case TokenMinted():
                self._add("mints", (event.credential, "minted"), [1])
            case TokenAdopted():
                self._add("adoptions", (event.credential,), [1])
            case MintFailed():
                self._add("mints", (event.credential, event.code), [1])
            case ClockSkewMeasured():
                self._skews[event.credential] = event.seconds
            case OutcomeUnknown():
                self._add("exchanges", (event.route, Sent.UNKNOWN.value), [1])
            case RecordsLost():
                self._add("lost", (), [event.count])

    def add(self, counts: Counts) -> None:
        """Add what a worker counted; it stays after the worker ends.

        A worker parses untrusted bytes: raises CountsUnusable if a histogram has a wrong length, before any is counted.
        """
        durations = (*(one.row for one in counts.requests), *(one.row for one in counts.sends))
        overheads = (one.row for one in counts.overhead)
        if {*map(len, durations)} - {len(DURATION_BOUNDS) + 2} or {*map(len, overheads)} - {len(OVERHEAD_BOUNDS) + 2}:
            raise CountsUnusable("the worker's histograms have other buckets than the keeper's")
        for method, route, status, sent, code, row in counts.requests:
            count = [sum(row[:-1])]
            self._add("server", (method, route, _status_label(status)), row)
            self._add("exchanges", (route, sent), count)
            if code:
                self._add("errors", (code,), count)
        for address, status, row in counts.sends:
            self._add("client", (address, _status_label(status)), row)
        for route, row in counts.overhead:
            self._add("overhead", (route,), row)
        for credential, outcome, amount in counts.replays:
            self._add("replays", (credential, outcome), [amount])
        for reason, amount in counts.certificates:
            self._add("certificates", (reason,), [amount])
        self._counted(counts)

    def migrated(self, migration: str, side: str, outcome: str) -> None:
        """Count an attempt on a migrated route."""
        self._add("migrated", (migration, side, outcome), [1])

    def signed(self, route: str, outcome: str, amount: float = 1.0) -> None:
        """Count *amount* signatures of bodies that workers wanted."""
        self._add("signatures", (route, outcome), [amount])

    def render(self, accept: str) -> tuple[str, bytes]:
        """Return content type and text: OpenMetrics if the header *accept* names it, else Prometheus' text format."""
        # prometheus_client's choose_encoder() would parse, and return, a version that the client invents.
        if "application/openmetrics-text" in accept.lower():
            return OPENMETRICS, bytes(openmetrics.generate_latest(self._registry))  # type: ignore[no-untyped-call] # it has none
        return TEXT, exposition.generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all families, for the registry."""
        status, tables = self._status(), self._tables
        credentials = sorted({token.credential for token in status.tokens})
        yield histogram(
            "http_server_request_duration_seconds",
            "Seconds from a request's head to the end of its answer, towards callers.",
            ("http_request_method", "http_route", "http_response_status_code"),
            tables["server"],
            DURATION_BOUNDS,
        )
        yield histogram(
            "http_client_request_duration_seconds",
            "Seconds from the last byte of a request to the head of the bank's answer, per send.",
            ("server_address", "http_response_status_code"),
            tables["client"],
            DURATION_BOUNDS,
        )
        text = "Seconds of an exchange that were neither the caller's nor the bank's."
        yield histogram("payproxy_overhead_seconds", text, ("http_route",), tables["overhead"], OVERHEAD_BOUNDS)
        yield counter(
            "payproxy_exchanges",
            "Finished exchanges by whether the bank may have the request.",
            ("http_route", "sent_upstream"),
            # Requests that match no rule were never sent.
            _zeros(status.routes, Sent) | _zeros([""], [Sent.NO]) | tables["exchanges"],
        )
        codes = [*_codes(ProxyError), *(_FACADE_CODES if status.facade else ())]
        text = "Answers made by the proxy itself, by code."
        yield counter("payproxy_errors", text, ("code",), _zeros(codes) | tables["errors"])
        yield counter(
            "payproxy_replays",
            "Refused tokens by what came of them: succeeded, refused, failed; not sent again: body_not_held, "
            "no_newer_token, prevented.",
            ("credential", "outcome"),
            _zeros(credentials, REPLAY_OUTCOMES) | tables["replays"],
        )
        yield counter(
            "payproxy_token_mint",
            "Calls of a token endpoint: minted, token_refused, token_unavailable.",
            ("credential", "outcome"),
            _zeros(credentials, _MINT_OUTCOMES) | tables["mints"],
        )
        yield counter(
            "payproxy_token_adoptions",
            "Tokens taken over from other replicas, which had minted them.",
            ("credential",),
            _zeros(credentials) | tables["adoptions"],
        )
        # Two routes may use one audience with different scopes: the earliest expiry counts.
        tokens = sorted(status.tokens, key=lambda token: -token.expires)
        expiries: dict[Key, float] = {
            (token.credential, token.audience): token.expires for token in tokens if token.expires
        }
        text = "When the access token in use ends, epoch seconds."
        yield gauge("payproxy_token_expiry_timestamp_seconds", text, ("credential", "audience"), expiries)
        # The last one that failed counts: a refused scope is not hidden by another one that is granted.
        minted: dict[Key, float] = {
            (token.credential, token.audience): int(not token.error_code)
            for token in sorted(status.tokens, key=lambda token: not token.error_code, reverse=True)
            if token.tried
        }
        text = "1 if the last call of the token endpoint gave a token, else 0."
        yield gauge("payproxy_token_last_mint_successful", text, ("credential", "audience"), minted)
        skews: dict[Key, float] = {(name,): self._skews[name] for name in credentials if name in self._skews}
        yield gauge("payproxy_clock_skew_seconds", "The token endpoint's clock minus ours.", ("credential",), skews)
        yield counter(
            "payproxy_migration_requests",
            "What came of requests on migrated routes, by side: ok, client_error, forbidden, refused, failed, none.",
            ("migration", "side", "outcome"),
            _zeros([one.name for one in status.migrations], Side, sorted(OUTCOMES)) | tables["migrated"],
        )
        yield counter(
            "payproxy_body_signatures",
            "Signatures of bodies that workers asked for: signed, failed, late (not made in time), overloaded, "
            "unanswered (the worker got no answer).",
            ("http_route", "outcome"),
            _zeros(status.signed_routes, SIGNATURE_OUTCOMES) | tables["signatures"],
        )
        yield counter(
            "payproxy_caller_certificates_refused",
            "TLS handshakes of callers that failed for their certificate: expired, missing, not_trusted.",
            ("reason",),
            _zeros(REFUSED_CERTIFICATES) | tables["certificates"],
        )
        text = "Records that the request log lacks, as its own records (records_lost) say."
        yield counter("payproxy_records_lost", text, (), _zeros() | tables["lost"])
        yield from gauges(status)
        yield from self._processes.read(status.workers)

    def _add(self, kind: str, key: Key, row: Sequence[float]) -> None:
        table = self._tables[kind]
        if key not in table and len(table) >= MAX_ROWS:
            key = (OTHER,) * len(key)
        known = table.get(key)
        if known is None:
            table[key] = list(row)
            return
        for index, amount in enumerate(row):
            known[index] += amount


class ProcessReader:
    """process_*: the keeper's without a label, as in every exporter, each worker's with `worker`.

    All share one family, so that a dashboard panel with only the standard names shows the workers too: most of the work
    is theirs.
    """

    def __init__(self) -> None:
        self._pid: int | str = "self"
        self._collector = ProcessCollector(pid=lambda: self._pid, registry=None)

    def read(self, workers: Sequence[WorkerStatus]) -> Iterable[Metric]:
        """Return the families; if two processes share a worker number, as during a reload, the younger one is shown."""
        families = {family.name: family for family in self._of("self")}
        youngest = {worker.worker: worker for worker in sorted(workers, key=lambda worker: worker.started)}
        for number, worker in sorted(youngest.items()):
            for family in self._of(worker.pid):
                for sample in family.samples:
                    labels = sample.labels | {"worker": str(number)}
                    families[family.name].add_sample(sample.name, labels, sample.value)
        return families.values()

    def _of(self, pid: int | str) -> Iterable[Metric]:
        self._pid = pid
        return self._collector.collect()


def _zeros(*labels: Iterable[str]) -> dict[Key, Row]:
    """Return a row of 0 for each combination: a counter that starts at 0 lets rate() see its first step."""
    return {tuple(map(str, key)): [0.0] for key in product(*labels)}


def _codes(kind: type[ProxyError]) -> list[str]:
    return sorted({kind.code, *(code for each in kind.__subclasses__() for code in _codes(each))})


def _status_label(status: int) -> str:
    return str(status) if status else ""
