"""Counters of a worker's exchanges: cheap to update per request, sent to the keeper once a second."""

from collections.abc import Mapping
from typing import Final

from proxy.errors import Sent
from proxy.link.counts import CertificateCount, Counts, OverheadCount, ReplayCount, RequestCount, SendCount
from proxy.request_summary import RequestSummary, word

# Upper bounds in seconds. OpenTelemetry's advice for HTTP up to 10 s; above it, the timeouts that matter here: the bank
# ends a card transaction after 70 s, the proxy gives up after 90 s, and both sends together after 200 s. They are
# lists, since compiled code creates a tuple anew at each call.
_DURATIONS: Final[list[float]] = [
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    70.0,
    90.0,
    200.0,
]
DURATION_BOUNDS = tuple(_DURATIONS)
# The proxy's own share of a request: some 30 us of work, some 200 us with a durable intent.
_OVERHEADS: Final[list[float]] = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0]
OVERHEAD_BOUNDS = tuple(_OVERHEADS)

# Callers can invent other methods than those of RFC 9110 and RFC 5789: as label values they would fill our memory.
METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
OTHER: Final = "_OTHER"

# What `replay_outcome` may return.
REPLAY_OUTCOMES: Final = ("succeeded", "refused", "failed", "body_not_held", "no_newer_token", "prevented")

# Why a caller's certificate was refused: it has expired, was not shown, or is none that client_ca_file vouches for.
REFUSED_CERTIFICATES: Final = ("expired", "missing", "not_trusted")

Row = list[float]

# Looking up an enum member in its class costs a call each time.
_NO: Final = Sent.NO


class Counters:
    """Sums since the last `delta`; *server_addresses* maps an upstream's name to its host.

    A row is the counts of a histogram's buckets (one more than it has bounds) and, last, the sum of the observed
    values. One row per (method, route, status, sent, code) serves three metrics, which the keeper separates.
    """

    def __init__(self, *, server_addresses: Mapping[str, str]) -> None:
        self._addresses = dict(server_addresses)
        # Each row is paired with the route's overhead row, which saves a look-up.
        self._server: dict[tuple[str, str, int, str, str], tuple[Row, Row]] = {}
        self._client: dict[tuple[str, int], Row] = {}
        self._overhead: dict[str, Row] = {}
        self._replays: dict[tuple[str, str], float] = {}
        self._certificates: dict[str, float] = {}

    def finished(self, exchange: RequestSummary) -> None:
        """Count *exchange*; hot path: plain dictionaries and lists, nothing allocated but keys."""
        seconds = exchange.finished - exchange.started
        method = exchange.method
        key = (
            method if method in METHODS else OTHER,
            exchange.chosen.route,
            exchange.status,
            word(exchange.sent_upstream),
            exchange.code,
        )
        rows = self._server.get(key)
        if rows is None:
            rows = self._begin(key)
        row, own_row = rows
        row[_bucket(_DURATIONS, seconds)] += 1.0
        row[-1] += seconds
        own = max(seconds - exchange.waited, 0.0)
        own_row[_bucket(_OVERHEADS, own)] += 1.0
        own_row[-1] += own

        for attempt in exchange.attempts:
            status = attempt.status
            # An attempt that was never sent did not wait: payproxy_errors_total counts it.
            if status or attempt.sent is not _NO:
                self._answered(attempt.chosen.upstream, status, attempt.wait_ms / 1000)
        if exchange.replayed or exchange.note:
            self._replay(exchange)

    def certificate_refused(self, reason: str) -> None:
        """Count a caller whose certificate was refused, by one of REFUSED_CERTIFICATES."""
        self._certificates[reason] = self._certificates.get(reason, 0.0) + 1.0

    def delta(self) -> Counts:
        """Return the sums since the last call, and reset them."""
        server, self._server = self._server, {}
        client, self._client = self._client, {}
        overhead, self._overhead = self._overhead, {}
        replays, self._replays = self._replays, {}
        certificates, self._certificates = self._certificates, {}
        return Counts(
            tuple([RequestCount(*key, row) for key, (row, _) in server.items()]),
            tuple([SendCount(*key, row) for key, row in client.items()]),
            tuple([OverheadCount(route, row) for route, row in overhead.items()]),
            tuple([ReplayCount(*key, count) for key, count in replays.items()]),
            certificates=tuple([CertificateCount(reason, count) for reason, count in certificates.items()]),
        )

    def _begin(self, key: tuple[str, str, int, str, str]) -> tuple[Row, Row]:
        route = key[1]
        own = self._overhead.get(route)
        if own is None:
            own = self._overhead[route] = [0.0] * (len(OVERHEAD_BOUNDS) + 2)
        rows = self._server[key] = ([0.0] * (len(DURATION_BOUNDS) + 2), own)
        return rows

    def _answered(self, upstream: str, status: int, seconds: float) -> None:
        key = (self._addresses.get(upstream, upstream), status)
        row = self._client.get(key)
        if row is None:
            row = self._client[key] = [0.0] * (len(DURATION_BOUNDS) + 2)
        row[_bucket(_DURATIONS, seconds)] += 1.0
        row[-1] += seconds

    def _replay(self, exchange: RequestSummary) -> None:
        outcome = replay_outcome(exchange)
        if outcome:
            key = (exchange.attempts[0].chosen.credential, outcome)
            self._replays[key] = self._replays.get(key, 0.0) + 1.0


def _bucket(bounds: list[float], seconds: float) -> int:
    """Return the index of the first bound that *seconds* does not exceed: nearly always one of the first."""
    index = 0
    for bound in bounds:
        if seconds <= bound:
            break
        index += 1
    return index


def replay_outcome(exchange: RequestSummary) -> str:
    """Return the outcome of a refused token, "" if none was refused.

    Sent again: succeeded, refused (the other token too) or failed. Not sent again: body_not_held (too large),
    no_newer_token (rate limit, or no mint), prevented (no connection or no intent).
    """
    if exchange.replayed:
        if exchange.note in ("fresh_token_refused", "legacy_token_refused"):
            return "refused"
        return "failed" if exchange.origin == "proxy" else "succeeded"
    if not exchange.attempts:  # a request to the facade, noted as such
        return ""
    if exchange.note == "modern_token_missing":  # fallback before the first send: no token was refused
        return ""
    if exchange.note in ("", "body_not_held", "no_newer_token"):
        return exchange.note
    # Any other note is the code of the error that prevented it.
    return "prevented"
