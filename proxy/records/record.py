"""The format of intents and exchanges in the request log; strings are masked here, once, when a line is built."""

from dataclasses import dataclass
from typing import Any, Final

from proxy.clock import timestamp
from proxy.records.json_line import line, quoted
from proxy.records.mask import Mask
from proxy.records.mask_rules import MOST_STEPS, Steps
from proxy.request_summary import Attempt, BodySignature, Chosen, RequestSummary, word

# The format of intents and records: raised when a field changes its meaning or goes away, not when one is added.
VERSION: Final = 1

# Characters of a caller's string that a record keeps. A cut goes back so far that it never splits a card number, IBAN
# or token: 19 digits with three separators between any two are 73 characters.
LONGEST_TEXT: Final = 2048
MOST_QUERY_KEYS: Final = 64
MOST_INDEX_VALUES: Final = 16
_LONGEST_KEYS: Final = 1024  # of a query together
# Limits for requests that match no rule: strangers may send any number of them.
_LONGEST_UNSERVED: Final = 512
_STEPS_UNSERVED: Final = 40
_RUN_UP: Final = 128
_RUN_CHARACTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz %+-_=."


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordContext:
    """Fields common to all records of a process: environment, instance, and the digest of the configuration in force.

    *chain* is the id of the data directory whose chain they are in, "" for none.
    """

    environment: str
    instance: str
    config_digest: str
    chain: str = ""

    def line(self, kind: str, facts: dict[str, Any], *, id: str, now: float) -> bytes:  # noqa: A002
        """Return a record of *kind* with *facts* as a line; *now* in epoch seconds."""
        members = {"kind": kind, "id": id, "version": VERSION, "time": timestamp(now), "environment": self.environment}
        chain = {"chain": self.chain} if self.chain else {}
        return line(members | {"instance": self.instance} | chain | facts | {"config_digest": self.config_digest})


# Caller and route repeat over many exchanges, so they are rendered once. Callers choose addresses, methods and paths,
# so the caches are bounded.
Asked = tuple[str, str, str, str, str]  # caller, caller_proof, client_address, method, route
_RENDERED: Final = 1024
_LONGEST_METHOD: Final = 32
_LONGEST_PATH: Final = 256
_THREE_DIGITS: Final = tuple(f"{number:03d}" for number in range(1000))


class RecordBuilder:
    """Turns exchanges into journal lines and masks strings from callers and the bank.

    On a migrated route the lines also have `retry`, which identifies a retry of the request.
    """

    def __init__(self, context: RecordContext, mask: Mask) -> None:
        self._context = context
        self._mask = mask
        # Mask budget for the strings of one record: no caller can block the loop for 1 ms or longer.
        self._steps = Steps()
        self._second = -1
        self._prefix = ""
        self._place = f'"environment":{quoted(context.environment)},"instance":{quoted(context.instance)}'
        if context.chain:
            self._place += f',"chain":{quoted(context.chain)}'
        self._digest = f'"config_digest":{quoted(context.config_digest)}'
        self._plain_end = self._digest + "}\n"
        self._asked: dict[Asked, str] = {}
        self._paths: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<RecordBuilder {self._context.instance} version {VERSION}>"

    def intent(self, account: RequestSummary, attempt: Attempt) -> bytes:
        """Return the line written before *attempt* is sent, with all that is known, in case nothing follows."""
        previous = f',"previous":{self._send(account.attempts[attempt.number - 2])}' if attempt.number > 1 else ""
        text = (
            f'{{"kind":"intent",{self._known(account)},"attempt":{attempt.number},'
            f'"started":"{self._time(attempt.started_wall)}","token_fingerprint":"{attempt.token_fingerprint}"{previous},'
            f'"request_bytes":{account.request_bytes},"body_hmac":"{account.body_hmac}",'
            f"{_signature(account.signature) if account.signature is not None else ''}{self._end(account)}"
        )
        return text.encode()

    def exchange(self, account: RequestSummary) -> bytes:
        """Return the record of a finished exchange as a line; times in milliseconds, sizes in bytes."""
        known = self._known(account)
        if account.cause:
            self._steps.left = _STEPS_UNSERVED
        seconds = account.finished - account.started
        attempts = account.attempts
        left = ""
        if account.caller_left:
            left = f'"caller_left_ms":{_milliseconds(account.left_at - account.started)},' if account.left_at else ""
        sends = self._send(attempts[0]) if len(attempts) == 1 else ",".join([self._send(each) for each in attempts])
        text = (
            f'{{"kind":"exchange",{known},'
            f'"attempts":[{sends}],"status":{account.status},"origin":"{account.origin}","code":"{account.code}",'
            f'"cause":{quoted(self._text(account.cause)) if account.cause else _EMPTY},'
            f'"sent_upstream":"{word(account.sent_upstream)}","replayed":{_TRUE if account.replayed else _FALSE},'
            f'"note":"{account.note}","caller_left":{_TRUE if account.caller_left else _FALSE},{left}'
            f"{self._answer_index(account) if account.answer_index else ''}"
            f'"duration_ms":{_milliseconds(seconds)},"overhead_ms":{_milliseconds(seconds - account.waited)},'
            f'"request_bytes":{account.request_bytes},"response_bytes":{account.response_bytes},'
            f'"body_hmac":"{account.body_hmac}",'
            f"{_signature(account.signature) if account.signature is not None else ''}{self._end(account)}"
        )
        return text.encode()

    def _send(self, attempt: Attempt) -> str:
        # Only a migration has sides; a second send may have gone to the other one.
        side = f',"side":"{attempt.chosen.side}"' if attempt.chosen.side else ""
        return (
            f'{{"started":"{self._time(attempt.started_wall)}","status":{attempt.status},'
            f'"token_fingerprint":"{attempt.token_fingerprint}","sent":"{word(attempt.sent)}",'
            f'"connect_ms":{_milliseconds(attempt.connect_ms / 1000)},'
            f'"wait_ms":{_milliseconds(attempt.wait_ms / 1000)}{side}}}'
        )

    def _known(self, account: RequestSummary) -> str:
        """Return the fields common to intent and final record: caller, route, target, reason.

        They are rendered once, unless another side or token was chosen after the intent: 1.4 us less a request with an
        intent, of some 40.
        """
        chosen = account.chosen
        if account.rendered_for is not chosen:
            account.rendered_for = chosen
            account.rendered = self._render(account, chosen)
        return account.rendered

    def _render(self, account: RequestSummary, chosen: Chosen) -> str:
        served = bool(chosen.route)
        self._steps.left = MOST_STEPS if served else _STEPS_UNSERVED
        longest = LONGEST_TEXT if served else _LONGEST_UNSERVED
        key = (account.caller, account.caller_proof, account.client_address, account.method, chosen.route)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._render_asked(key)
        if not chosen.rendered:
            chosen.rendered = quoted(
                {
                    "upstream": chosen.upstream,
                    "upstream_url": chosen.upstream_url,
                    "credential": chosen.credential,
                    "client_digest": chosen.client_digest,
                    "audience": chosen.audience,
                    "side": chosen.side,
                    "why": chosen.why,
                }
            )[1:-1]
        path = self._path(account.path, longest)
        index = self._values(account.index, longest) if account.index else "{}"
        query_keys = self._query_keys(account.query, min(longest, _LONGEST_KEYS)) if account.query else "[]"
        return (
            f'"id":"{account.id}","version":{VERSION},"time":"{self._time(account.started_wall)}",{self._place},{asked},'
            f'"path":{path},"query_keys":{query_keys},{chosen.rendered},"index":{index}'
        )

    def _end(self, account: RequestSummary) -> str:
        """Return the last members of a line and its end; `JournalTail` detects `retry` by them."""
        if account.retry:
            return f'{self._digest},"retry":{quoted(account.retry)}}}\n'
        return self._plain_end

    def _render_asked(self, key: Asked) -> str:
        caller, caller_proof, client_address, method, route = key
        asked = {
            "caller": caller,
            "caller_proof": caller_proof,
            "client_address": client_address,
            "method": self._text(method, _LONGEST_PATH),
            "route": route,
        }
        rendered = quoted(asked)[1:-1]
        if len(method) <= _LONGEST_METHOD:
            if len(self._asked) >= _RENDERED:
                self._asked.clear()
            self._asked[key] = rendered
        return rendered

    def _path(self, path: str, longest: int) -> str:
        rendered = self._paths.get(path)
        if rendered is None:
            rendered = quoted(self._text(path, longest))
            # A path without a rule has fewer mask steps, so its mask may differ.
            if len(path) <= _LONGEST_PATH and longest == LONGEST_TEXT:
                if len(self._paths) >= _RENDERED:
                    self._paths.clear()
                self._paths[path] = rendered
        return rendered

    def _text(self, text: str, longest: int = LONGEST_TEXT) -> str:
        return self._mask.text(text if len(text) <= longest else cut(text, longest), self._steps)

    def _query_keys(self, query: str, room: int) -> str:
        """Return the names in *query*, which starts with a question mark; the values never enter a record."""
        names: list[str] = []
        for pair in query[1:].split("&", MOST_QUERY_KEYS)[:MOST_QUERY_KEYS] if len(query) > 1 else []:
            name = pair.partition("=")[0]
            names.append(self._text(name, room))
            room -= len(name)
            if room <= 0 or self._steps.left < 0:
                break
        return quoted(names)

    def _answer_index(self, account: RequestSummary) -> str:
        """Return the member with the kept headers of the bank's response; `sinks/row.py` depends on its position."""
        # Its own steps: a costly request of a caller must not mask the bank's ids as a whole.
        self._steps.left = _STEPS_UNSERVED
        return f'"answer_index":{self._values(account.answer_index, LONGEST_TEXT)},'

    def _values(self, index: tuple[tuple[str, str], ...], room: int) -> str:
        """Return the index headers' values by name, masked; a repeated name has all its values (RFC 9110 5.3).

        Values beyond *room* are cut off, like the end of a long one.
        """
        values: dict[str, str] = {}
        for number, (name, given) in enumerate(index):
            if room <= 0 or number >= MOST_INDEX_VALUES:
                values[name] = f"{values[name]}, …" if name in values else "…"
                break
            value = self._mask.index(given if len(given) <= room else cut(given, room), self._steps)
            values[name] = f"{values[name]}, {value}" if name in values else value
            room -= len(given)
        return quoted(values)

    def _time(self, seconds: float) -> str:
        """Return `timestamp(seconds)`, formatting whole seconds once: 0.3 us instead of 2."""
        microseconds = int(seconds * 1_000_000 + 0.5)
        whole = microseconds // 1_000_000
        if whole != self._second:
            self._second = whole
            self._prefix = timestamp(whole)[:-7]
        micro = microseconds % 1_000_000
        return f"{self._prefix}{_THREE_DIGITS[micro // 1000]}{_THREE_DIGITS[micro % 1000]}Z"


_EMPTY: Final = '""'
_TRUE: Final = "true"
_FALSE: Final = "false"


def _signature(made: BodySignature) -> str:
    """Return the member that says by which key a body was signed, and what was sent in its place."""
    return f'"signature":{{"key":{quoted(made.key)},"bytes":{made.bytes},"body_hmac":"{made.body_hmac}"}},'


def _milliseconds(seconds: float) -> str:
    """Return *seconds* in milliseconds with three decimals, "0.000" if negative."""
    if seconds <= 0:
        return "0.000"
    micro = int(seconds * 1_000_000 + 0.5)
    return f"{micro // 1000}.{_THREE_DIGITS[micro % 1000]}"


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the start of a *text* longer than *longest*, without the run of characters that the cut splits."""
    safe = max(0, longest - _RUN_UP)
    return f"{text[:safe]}{text[safe:longest].rstrip(_RUN_CHARACTERS)}…"


def lost_records(context: RecordContext, *, id: str, now: float, count: int, cause: str) -> bytes:  # noqa: A002
    """Return the record that *count* records were lost while the journal could not be written."""
    facts = {"event": "records_lost", "count": count, "cause": cause}
    return context.line("lifecycle", facts, id=id, now=now)
