"""Starts and finishes exchanges and writes their intents: connects `forward` to the journal and the counters."""

from typing import Final

from proxy.clock import Clock
from proxy.entropy import Entropy, Uuid7s
from proxy.errors import LogUnavailable
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.headers import REDACTED
from proxy.records.journal import Journal
from proxy.records.record import MOST_INDEX_VALUES
from proxy.request_summary import Attempt
from proxy.settings.methods import KNOWN_METHODS
from proxy.settings.worker_values import RequestLogValues
from proxy.telemetry.counters import Counters

# Lines of the bank's heads that no record keeps: most are the same each time, and a known one is not taken apart.
_PASSED_OVER: Final = 1024
_LONGEST_LINE: Final = 128


class ExchangeLog:
    """Gives every exchange of one worker its id, and writes its record; *counter* counts them for the keeper."""

    def __init__(
        self,
        values: RequestLogValues,
        *,
        journal: Journal,
        counters: Counters,
        counter: memoryview,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._without_intent = KNOWN_METHODS.difference(values.intent_methods)
        self._index_headers = frozenset(name.lower().encode("latin-1") for name in values.index_headers)
        self._answer_headers = frozenset(name.lower().encode("latin-1") for name in values.index_answer_headers)
        self._passed_over: set[bytes] = set()
        self._journal = journal
        self._counters = counters
        self._counter = counter
        self._now = clock.now
        self._monotonic = clock.monotonic
        self._ids = Uuid7s(entropy)

    def begin(self, side: CallerSide) -> Exchange:
        """Return a new exchange for the request of *side*."""
        self._counter[0] += 1
        now = self._now()
        exchange = Exchange(
            self._ids.next(now),
            started=self._monotonic(),
            started_wall=now,
            client_address=side.peer,
            method=side.raw.method,
        )
        side.summary, side.monotonic = exchange, self._monotonic
        return exchange

    async def write(self, exchange: Exchange, attempt: Attempt) -> None:
        """Return once the intent is on disk, or at once if the method needs none and the journal works.

        Raises LogUnavailable, for reads too: a request that can't be recorded is not sent.
        """
        if exchange.method not in self._without_intent:
            exchange.index = self._index(exchange)
            on_disk = self._journal.intend(exchange, attempt)
            if on_disk is not None:
                await on_disk
        elif not self._journal.usable():
            raise LogUnavailable("The journal can't be written, so nothing is sent.", retry_after=1)

    def finish(self, exchange: Exchange) -> None:
        """Count a finished exchange and pass it to the journal; never waits."""
        exchange.finished = self._monotonic()
        if not exchange.index:
            exchange.index = self._index(exchange)
        if self._answer_headers and exchange.answer_lines:
            exchange.answer_index = self._answer_index(exchange.answer_lines, exchange.answer_token)
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
                if len(found) > MOST_INDEX_VALUES:
                    break
        return tuple(found) if found else ()

    def _answer_index(self, lines: list[bytes], token: bytes) -> tuple[tuple[str, str], ...]:
        """Return those of the bank's header *lines* that the record keeps, without *token*, which a bank may echo."""
        passed_over = self._passed_over
        found: list[tuple[str, str]] = []
        for line in lines:
            if line in passed_over:
                continue
            name, _, value = line.partition(b":")
            if name.lower() in self._answer_headers:
                found.append((name.decode("latin-1"), _text(value.replace(token, REDACTED).strip(b" \t"))))
                if len(found) > MOST_INDEX_VALUES:
                    break
            elif len(line) <= _LONGEST_LINE:
                if len(passed_over) >= _PASSED_OVER:
                    passed_over.clear()
                passed_over.add(line)
        return tuple(found)


def _text(value: bytes) -> str:
    """Decode a header value as UTF-8, else as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
