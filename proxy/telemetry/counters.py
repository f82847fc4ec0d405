"""What a worker counts of its exchanges: cheap while a request is finished, summed up once a second for the keeper."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from proxy.errors import Sent

# Upper bounds in seconds. OpenTelemetry's advice for HTTP up to 10 s; above it the waits that mean something here: the
# bank ends a card transaction after 70 s, we give up after 90 s, both sends together end after 200 s.
DURATION_BOUNDS = (
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
)
# The proxy's own share of a request: some 30 us of work, some 200 us with a durable intent.
OVERHEAD_BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0)

# A method outside of RFC 9110 and RFC 5789 is the caller's invention: as a label it would let callers fill our memory.
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
OTHER = "_OTHER"

Row = list[float]


class Attempt(Protocol):
    """What is counted of one send to the bank."""

    @property
    def status(self) -> int:
        """Return the status of the answer, 0 without one."""

    @property
    def upstream(self) -> str:
        """Return the upstream's name."""

    @property
    def credential(self) -> str:
        """Return the credential's name."""

    @property
    def sent(self) -> Sent:
        """Return whether the bank may have it."""

    @property
    def wait_ms(self) -> float:
        """Return how long the answer's head was waited for."""


class Exchange(Protocol):
    """What is counted of a finished exchange; names are "" where there is no plan."""

    @property
    def began(self) -> float:
        """Return when it began, monotonic seconds."""

    @property
    def finished(self) -> float:
        """Return when it ended, monotonic seconds."""

    @property
    def waited(self) -> float:
        """Return the seconds spent waiting for caller and bank."""

    @property
    def method(self) -> str:
        """Return the caller's method."""

    @property
    def route(self) -> str:
        """Return the rule's name."""

    @property
    def upstream(self) -> str:
        """Return the upstream's name."""

    @property
    def credential(self) -> str:
        """Return the credential's name."""

    @property
    def status(self) -> int:
        """Return what the caller got, 0 for nothing."""

    @property
    def code(self) -> str:
        """Return the code of the proxy's own answer, else none."""

    @property
    def origin(self) -> str:
        """Return who answered: bank or proxy."""

    @property
    def sent_upstream(self) -> Sent:
        """Return whether the bank may have the request."""

    @property
    def replayed(self) -> bool:
        """Return whether it was sent a second time."""

    @property
    def note(self) -> str:
        """Return what the 401 protocol came to."""

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Return the sends, in order."""


class Counters:
    """Sums since the last `delta`; *server_addresses* maps an upstream's name to its host.

    A row is the counts of a histogram's buckets (one more than it has bounds) and, last, the sum of what was observed.
    One row per (method, route, status, sent, code) serves three metrics: the keeper takes them apart.
    """

    def __init__(self, *, server_addresses: Mapping[str, str]) -> None:
        self._addresses = dict(server_addresses)
        # Beside each row the one of the route's overhead, which saves a look-up.
        self._server: dict[tuple[str, str, int, str, str], tuple[Row, Row]] = {}
        self._client: dict[tuple[str, int], Row] = {}
        self._overhead: dict[str, Row] = {}
        self._replays: dict[tuple[str, str], Row] = {}

    def finished(self, exchange: Exchange) -> None:
        """Count *exchange*: on the hot path, so plain dictionaries and lists, and nothing built but keys."""
        seconds = exchange.finished - exchange.began
        method = exchange.method
        route = exchange.route
        sent = exchange.sent_upstream
        key = (
            method if method in METHODS else OTHER,
            route,
            exchange.status,
            # An enum's own hash is a Python function; the plain word costs a comparison.
            "yes" if sent == "yes" else "no" if sent == "no" else "unknown",
            exchange.code,
        )
        row, own_row = self._server.get(key) or self._begin(key)
        row[bisect_left(DURATION_BOUNDS, seconds)] += 1
        row[-1] += seconds
        own = seconds - exchange.waited
        if own < 0:
            own = 0.0
        own_row[bisect_left(OVERHEAD_BOUNDS, own)] += 1
        own_row[-1] += own

        for attempt in exchange.attempts:
            status = attempt.status
            # What was never sent waited for nothing: it stands in payproxy_errors_total.
            if status or attempt.sent != "no":
                self._answered(attempt.upstream, status, attempt.wait_ms / 1000)
        if exchange.replayed or exchange.note:
            self._replay(exchange)

    def delta(self) -> dict[str, list[list[Any]]]:
        """Return the sums since the last call as lists that JSON can carry, {} if there are none, and begin anew."""
        server, self._server = self._server, {}
        client, self._client = self._client, {}
        overhead, self._overhead = self._overhead, {}
        replays, self._replays = self._replays, {}
        kinds: dict[str, list[list[Any]]] = {
            "server": [[*key, row] for key, (row, _) in server.items()],
            "client": [[*key, row] for key, row in client.items()],
            "overhead": [[route, row] for route, row in overhead.items()],
            "replays": [[*key, row] for key, row in replays.items()],
        }
        return {kind: rows for kind, rows in kinds.items() if rows}

    def _begin(self, key: tuple[str, str, int, str, str]) -> tuple[Row, Row]:
        route = key[1]
        own = self._overhead.get(route)
        if own is None:
            own = self._overhead[route] = [0] * (len(OVERHEAD_BOUNDS) + 2)
        rows = self._server[key] = ([0] * (len(DURATION_BOUNDS) + 2), own)
        return rows

    def _answered(self, upstream: str, status: int, seconds: float) -> None:
        key = (self._addresses.get(upstream, upstream), status)
        row = self._client.get(key)
        if row is None:
            row = self._client[key] = [0] * (len(DURATION_BOUNDS) + 2)
        row[bisect_left(DURATION_BOUNDS, seconds)] += 1
        row[-1] += seconds

    def _replay(self, exchange: Exchange) -> None:
        outcome = replay_outcome(exchange)
        if outcome:
            row = self._replays.setdefault((exchange.attempts[0].credential, outcome), [0])
            row[0] += 1


def replay_outcome(exchange: Exchange) -> str:
    """Return what a refused token led to, "" if none was refused.

    Sent again: succeeded, refused (the other token too) or failed. Not sent again: body_not_held (too large),
    no_newer_token (no budget, or no mint), prevented (no connection or no intent).
    """
    if exchange.replayed:
        if exchange.note in ("fresh_token_refused", "legacy_token_refused"):
            return "refused"
        return "failed" if exchange.origin == "proxy" else "succeeded"
    if not exchange.attempts:  # a request to the facade, noted as such
        return ""
    if exchange.note == "modern_token_missing":  # it fell back before the first send: no token was refused
        return ""
    if exchange.note in ("", "body_not_held", "no_newer_token"):
        return exchange.note
    # Any other note is the code of what stood in the way.
    return "prevented"


class DeltaUnusable(ValueError):
    """A worker sent counters that can't be read; nothing of them was counted."""


def rows(delta: Mapping[str, Any], kind: str, *, labels: int, width: int) -> Iterator[tuple[list[Any], Row]]:
    """Yield the labels and the row of each entry of *kind* in a `delta`.

    A worker parses strangers' bytes, so the keeper trusts no shape: DeltaUnusable if an entry has not *labels* short
    strings or small integers and a row of *width* numbers that are not negative.
    """
    entries = delta.get(kind, [])
    if not isinstance(entries, list):
        raise DeltaUnusable(f"the worker's {kind} counters are no list")
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != labels + 1:
            raise DeltaUnusable(f"an entry of the worker's {kind} counters has the wrong length")
        *names, row = entry
        if not all(_is_label(name) for name in names):
            raise DeltaUnusable(f"an entry of the worker's {kind} counters has a label that is none")
        if not isinstance(row, list) or len(row) != width or not all(_is_amount(amount) for amount in row):
            raise DeltaUnusable(f"an entry of the worker's {kind} counters has a row that is none")
        yield names, row


def _is_label(value: object) -> bool:
    # type() and not isinstance(): True is an int too.
    if type(value) is int:
        return 0 <= value <= 999
    return isinstance(value, str) and len(value) <= 300


def _is_amount(value: object) -> bool:
    # The chained comparison is also false for NaN and infinity, which json.loads lets through.
    return type(value) in (int, float) and 0 <= value < 1e15  # type: ignore[operator] # the type was just looked at
