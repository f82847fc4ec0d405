"""What an intent and an exchange look like in the request log; masked here, once, when a line is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.clock import timestamp
from proxy.errors import Sent
from proxy.records.line import line, quoted
from proxy.records.mask import Mask

# The format of intents and records: raised when a field changes its meaning or goes away, not when one is added.
VERSION = 1

# Characters of a caller's string that a record keeps. A cut goes back to where no card number, IBAN or token can be
# half in: 19 digits with three separators between any two are 73 characters.
LONGEST_TEXT = 2048
MOST_QUERY_KEYS = 64
_RUN_UP = 128
_RUN_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz %+-_=."


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordContext:
    """What all records of a process share: environment, instance, and the digest of the configuration in force."""

    environment: str
    instance: str
    config_digest: str


# caller, caller_proof, client_address, method, route, upstream, credential, audience, side, why: the same for many
# exchanges, so that they are rendered once. Addresses, methods and paths are the callers' to choose: within bounds.
Parties = tuple[str, str, str, str, str, str, str, str, str, str]
_RENDERED = 1024
_LONGEST_METHOD = 32
_LONGEST_PATH = 256


class MadeAttempt(Protocol):
    """One send to the bank, as the data path leaves it; times in epoch seconds and milliseconds."""

    number: int
    started_wall: float
    status: int
    token_fingerprint: str
    sent: Sent
    connect_ms: float
    wait_ms: float

    @property
    def side(self) -> str:
        """Return legacy or modern where a migration applies."""


class FinishedExchange(Protocol):
    """One request after its end, as the data path leaves it; it is read some milliseconds later and not changed."""

    @property
    def id(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def began_wall(self) -> float: ...  # noqa: D102 - the class docstring says it
    @property
    def began(self) -> float: ...  # noqa: D102 - the class docstring says it
    @property
    def finished(self) -> float: ...  # noqa: D102 - the class docstring says it
    @property
    def path(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def query_keys(self) -> tuple[str, ...]: ...  # noqa: D102 - the class docstring says it
    @property
    def status(self) -> int: ...  # noqa: D102 - the class docstring says it
    @property
    def origin(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def code(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def cause(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def sent_upstream(self) -> Sent: ...  # noqa: D102 - the class docstring says it
    @property
    def replayed(self) -> bool: ...  # noqa: D102 - the class docstring says it
    @property
    def note(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def caller_left(self) -> bool: ...  # noqa: D102 - the class docstring says it
    @property
    def request_bytes(self) -> int: ...  # noqa: D102 - the class docstring says it
    @property
    def body_hmac(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def response_bytes(self) -> int: ...  # noqa: D102 - the class docstring says it
    @property
    def waited(self) -> float: ...  # noqa: D102 - the class docstring says it
    @property
    def index(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102 - the class docstring says it
    @property
    def retry(self) -> str: ...  # noqa: D102 - the class docstring says it

    @property
    def parties(self) -> Parties:
        """Return who asked whom, and why so."""

    @property
    def attempts(self) -> Sequence[MadeAttempt]:
        """Return the sends, in order."""


class RecordBuilder:
    """Turns exchanges into lines of the journal, masking what callers and the bank gave.

    On a migrated route they also have `retry`, by which a retry of the request is known again.
    """

    def __init__(self, context: RecordContext, mask: Mask) -> None:
        self._context = context
        self._mask = mask
        self._second = -1
        self._prefix = ""
        self._place = f'"environment":{quoted(context.environment)},"instance":{quoted(context.instance)}'
        self._rendered: dict[Parties, tuple[str, str]] = {}
        self._paths: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<RecordBuilder {self._context.instance} version {VERSION}>"

    def intent(self, exchange: FinishedExchange, attempt: MadeAttempt) -> bytes:
        """Return the line that says: this is about to be sent. All that is known by now, for if nothing follows."""
        parties = exchange.parties
        asked, chosen = self._rendered.get(parties) or self._render(parties)
        beginning = (
            f'{{"kind":"intent","id":"{exchange.id}","version":{VERSION},"time":"{self._time(exchange.began_wall)}",'
            f'{self._place},"attempt":{attempt.number},"started":"{self._time(attempt.started_wall)}",'
            f'"token_fingerprint":"{attempt.token_fingerprint}",{asked},"path":{self._path(exchange.path)},'
            f'"query_keys":{self._query_keys(exchange.query_keys)},{chosen},'
        )
        end = {
            "request_bytes": exchange.request_bytes,
            "body_hmac": exchange.body_hmac,
            "index": self._index(exchange.index) if exchange.index else {},
            "config_digest": self._context.config_digest,
        }
        if exchange.retry:
            end["retry"] = exchange.retry
        return beginning.encode() + line(end)[1:]

    def exchange(self, exchange: FinishedExchange) -> bytes:
        """Return the record of a finished exchange as a line; times in milliseconds, sizes in bytes."""
        parties = exchange.parties
        asked, chosen = self._rendered.get(parties) or self._render(parties)
        beginning = (
            f'{{"kind":"exchange","id":"{exchange.id}","version":{VERSION},"time":"{self._time(exchange.began_wall)}",'
            f'{self._place},{asked},"path":{self._path(exchange.path)},'
            f'"query_keys":{self._query_keys(exchange.query_keys)},{chosen},'
        )
        seconds = exchange.finished - exchange.began
        attempts: list[dict[str, object]] = [
            {
                "started": self._time(attempt.started_wall),
                "status": attempt.status,
                "token_fingerprint": attempt.token_fingerprint,
                "sent": attempt.sent,
                "connect_ms": int(attempt.connect_ms * 1000 + 0.5) / 1000,
                "wait_ms": int(attempt.wait_ms * 1000 + 0.5) / 1000,
            }
            for attempt in exchange.attempts
        ]
        if parties[8]:  # a migration applies, and a second send may have gone to its other side
            for shown, attempt in zip(attempts, exchange.attempts, strict=True):
                shown["side"] = attempt.side
        end = {
            "attempts": attempts,
            "status": exchange.status,
            "origin": exchange.origin,
            "code": exchange.code,
            "cause": self._text(exchange.cause) if exchange.cause else "",
            "sent_upstream": exchange.sent_upstream,
            "replayed": exchange.replayed,
            "note": exchange.note,
            "caller_left": exchange.caller_left,
            # To three decimals by division: 0.1 us where round() takes 0.2.
            "duration_ms": int(seconds * 1000 * 1000 + 0.5) / 1000,
            "overhead_ms": int((seconds - exchange.waited) * 1000 * 1000 + 0.5) / 1000,
            "request_bytes": exchange.request_bytes,
            "response_bytes": exchange.response_bytes,
            "body_hmac": exchange.body_hmac,
            "index": self._index(exchange.index) if exchange.index else {},
            "config_digest": self._context.config_digest,
        }
        if exchange.retry:
            end["retry"] = exchange.retry
        return beginning.encode() + line(end)[1:]

    def _render(self, parties: Parties) -> tuple[str, str]:
        """Return the members of a line that *parties* are: those before the path and those behind the query's keys."""
        caller, caller_proof, client_address, method, route, upstream, credential, audience, side, why = parties
        asked = {
            "caller": caller,
            "caller_proof": caller_proof,
            "client_address": client_address,
            "method": self._text(method),
            "route": route,
        }
        chosen = {"upstream": upstream, "credential": credential, "audience": audience, "side": side, "why": why}
        rendered = (quoted(asked)[1:-1], quoted(chosen)[1:-1])
        if len(method) <= _LONGEST_METHOD:
            if len(self._rendered) >= _RENDERED:
                self._rendered.clear()
            self._rendered[parties] = rendered
        return rendered

    def _path(self, path: str) -> str:
        rendered = self._paths.get(path)
        if rendered is None:
            rendered = quoted(self._text(path))
            if len(path) <= _LONGEST_PATH:
                if len(self._paths) >= _RENDERED:
                    self._paths.clear()
                self._paths[path] = rendered
        return rendered

    def _text(self, text: str) -> str:
        return self._mask.text(text if len(text) <= LONGEST_TEXT else cut(text))

    def _query_keys(self, keys: tuple[str, ...]) -> str:
        return quoted([self._text(key) for key in keys[:MOST_QUERY_KEYS]]) if keys else "[]"

    def _index(self, pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
        """Return the index headers' values by name; a name given twice has both values (RFC 9110 5.3)."""
        values: dict[str, str] = {}
        for name, given in pairs:
            value = self._mask.index(given if len(given) <= LONGEST_TEXT else cut(given))
            values[name] = f"{values[name]}, {value}" if name in values else value
        return values

    def _time(self, seconds: float) -> str:
        """Return `timestamp(seconds)`, formatting whole seconds once: 0.3 us instead of 2."""
        whole, micro = divmod(int(seconds * 1_000_000 + 0.5), 1_000_000)
        if whole != self._second:
            self._second = whole
            self._prefix = timestamp(whole)[:-7]
        return f"{self._prefix}{micro:06d}Z"


def cut(text: str) -> str:
    """Return the beginning of a *text* longer than LONGEST_TEXT, without a run of characters that the cut divides."""
    safe = LONGEST_TEXT - _RUN_UP
    return f"{text[:safe]}{text[safe:LONGEST_TEXT].rstrip(_RUN_CHARACTERS)}…"


def lost_records(context: RecordContext, *, id: str, now: float, count: int, cause: str) -> bytes:  # noqa: A002
    """Return the record that says that *count* records could not be kept while the journal could not be written."""
    return line(
        {
            "kind": "lifecycle",
            "id": id,
            "version": VERSION,
            "time": timestamp(now),
            "environment": context.environment,
            "instance": context.instance,
            "event": "records_lost",
            "count": count,
            "cause": cause,
            "config_digest": context.config_digest,
        }
    )
