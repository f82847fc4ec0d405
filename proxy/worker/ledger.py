"""Where exchanges begin and end, and where their intents go: the journal and the counters, wired to `forward`."""

from collections.abc import Awaitable

from proxy.account import Attempt
from proxy.clock import Clock
from proxy.entropy import Entropy, Uuid7s
from proxy.errors import LogUnavailable
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.records.journal import Journal
from proxy.settings.methods import KNOWN_METHODS
from proxy.settings.snapshot import RequestLogValues
from proxy.telemetry.counters import Counters


class WorkerLedger:
    """One worker's: every exchange gets an id here, and leaves a record here."""

    def __init__(
        self, values: RequestLogValues, *, journal: Journal, counters: Counters, clock: Clock, entropy: Entropy
    ) -> None:
        self._without_intent = KNOWN_METHODS.difference(values.intent_methods)
        self._index_headers = frozenset(name.lower().encode("latin-1") for name in values.index_headers)
        self._journal = journal
        self._counters = counters
        self._now = clock.now
        self._monotonic = clock.monotonic
        self._ids = Uuid7s(entropy)

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange for what *side* asks."""
        now = self._now()
        exchange = Exchange(
            self._ids.next(now),
            began=self._monotonic(),
            began_wall=now,
            client_address=side.peer,
            method=side.raw.method,
        )
        side.account, side.monotonic = exchange, self._monotonic
        return exchange

    def write(self, exchange: Exchange, attempt: Attempt) -> Awaitable[None] | None:
        """Return what ends once the intent is on disk; None, if the method needs none and the journal works.

        Raises LogUnavailable, for reads too: a request that can't be recorded is not sent.
        """
        if exchange.method not in self._without_intent:
            exchange.index = self._index(exchange)
            return self._journal.intend(exchange, attempt)
        if not self._journal.usable():
            raise LogUnavailable("The journal can't be written, so nothing is sent.", retry_after=1)
        return None

    def finish(self, exchange: Exchange) -> None:
        """Count what has ended and hand it to the journal; never waits."""
        exchange.finished = self._monotonic()
        if not exchange.index:
            exchange.index = self._index(exchange)
        self._counters.finished(exchange)
        self._journal.finish(exchange)

    def _index(self, exchange: Exchange) -> tuple[tuple[str, str], ...]:
        head, wanted = exchange.head, self._index_headers
        if head is None or not wanted:
            return ()
        found: list[tuple[str, str]] = []
        for line in head.passed:
            header = line.header
            if header is not None and header.plain in wanted:
                found.append((line.name.decode("latin-1"), _text(line.value)))
        return tuple(found) if found else ()


def _text(value: bytes) -> str:
    """Return the value of a header as those who sent it would write it: UTF-8, or else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
