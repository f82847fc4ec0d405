"""What an intent and an exchange look like in the request log; masked here, once, when a line is built."""

from dataclasses import dataclass
from typing import Final

from proxy.account import Account, Attempt, Chosen, word
from proxy.clock import timestamp
from proxy.records.line import line, quoted
from proxy.records.mask import Mask

# The format of intents and records: raised when a field changes its meaning or goes away, not when one is added.
VERSION: Final = 1

# Characters of a caller's string that a record keeps. A cut goes back to where no card number, IBAN or token can be
# half in: 19 digits with three separators between any two are 73 characters.
LONGEST_TEXT: Final = 2048
MOST_QUERY_KEYS: Final = 64
_RUN_UP: Final = 128
_RUN_CHARACTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz %+-_=."


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordContext:
    """What all records of a process share: environment, instance, and the digest of the configuration in force."""

    environment: str
    instance: str
    config_digest: str


# Who asked, and from where, is the same for many exchanges, so that it is rendered once. Addresses, methods and paths
# are the callers' to choose: within bounds.
Asked = tuple[str, str, str, str, str]  # caller, caller_proof, client_address, method, route
_RENDERED: Final = 1024
_LONGEST_METHOD: Final = 32
_LONGEST_PATH: Final = 256
_THREE_DIGITS: Final = tuple(f"{number:03d}" for number in range(1000))


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
        self._digest = f'"config_digest":{quoted(context.config_digest)}'
        self._plain_end = self._digest + "}\n"
        self._asked: dict[Asked, str] = {}
        self._paths: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<RecordBuilder {self._context.instance} version {VERSION}>"

    def intent(self, account: Account, attempt: Attempt) -> bytes:
        """Return the line that says: this is about to be sent. All that is known by now, for if nothing follows."""
        text = (
            f'{{"kind":"intent",{self._known(account)},"attempt":{attempt.number},'
            f'"started":"{self._time(attempt.started_wall)}","token_fingerprint":"{attempt.token_fingerprint}",'
            f'"request_bytes":{account.request_bytes},"body_hmac":"{account.body_hmac}",{self._end(account)}'
        )
        return text.encode()

    def exchange(self, account: Account) -> bytes:
        """Return the record of a finished exchange as a line; times in milliseconds, sizes in bytes."""
        seconds = account.finished - account.began
        attempts = account.attempts
        left = ""
        if account.caller_left:
            left = f'"caller_left_ms":{_milliseconds(account.left_at - account.began)},' if account.left_at else ""
        sends = self._send(attempts[0]) if len(attempts) == 1 else ",".join([self._send(each) for each in attempts])
        text = (
            f'{{"kind":"exchange",{self._known(account)},'
            f'"attempts":[{sends}],"status":{account.status},"origin":"{account.origin}","code":"{account.code}",'
            f'"cause":{quoted(self._text(account.cause)) if account.cause else _EMPTY},'
            f'"sent_upstream":"{word(account.sent_upstream)}","replayed":{_TRUE if account.replayed else _FALSE},'
            f'"note":"{account.note}","caller_left":{_TRUE if account.caller_left else _FALSE},{left}'
            f'"duration_ms":{_milliseconds(seconds)},"overhead_ms":{_milliseconds(seconds - account.waited)},'
            f'"request_bytes":{account.request_bytes},"response_bytes":{account.response_bytes},'
            f'"body_hmac":"{account.body_hmac}",{self._end(account)}'
        )
        return text.encode()

    def _send(self, attempt: Attempt) -> str:
        # A migration applies where there is a side, and a second send may have gone to its other one.
        side = f',"side":"{attempt.chosen.side}"' if attempt.chosen.side else ""
        return (
            f'{{"started":"{self._time(attempt.started_wall)}","status":{attempt.status},'
            f'"token_fingerprint":"{attempt.token_fingerprint}","sent":"{word(attempt.sent)}",'
            f'"connect_ms":{_milliseconds(attempt.connect_ms / 1000)},'
            f'"wait_ms":{_milliseconds(attempt.wait_ms / 1000)}{side}}}'
        )

    def _known(self, account: Account) -> str:
        """Return the members that intent and record have alike: who asked whom for what, and why it went there.

        They are rendered once, unless something else was chosen after the intent.
        """
        chosen = account.chosen
        if account.rendered_for is not chosen:
            account.rendered_for = chosen
            account.rendered = self._render(account, chosen)
        return account.rendered

    def _render(self, account: Account, chosen: Chosen) -> str:
        key = (account.caller, account.caller_proof, account.client_address, account.method, chosen.route)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._render_asked(key)
        if not chosen.rendered:
            chosen.rendered = quoted(
                {
                    "upstream": chosen.upstream,
                    "credential": chosen.credential,
                    "audience": chosen.audience,
                    "side": chosen.side,
                    "why": chosen.why,
                }
            )[1:-1]
        query_keys = self._query_keys(account.query) if account.query else "[]"
        return (
            f'"id":"{account.id}","version":{VERSION},"time":"{self._time(account.began_wall)}",{self._place},{asked},'
            f'"path":{self._path(account.path)},"query_keys":{query_keys},{chosen.rendered},'
            f'"index":{self._index(account) if account.index else "{}"}'
        )

    def _end(self, account: Account) -> str:
        """Return the last members of a line and its end; `JournalTail` tells by them whether there is a `retry`."""
        if account.retry:
            return f'{self._digest},"retry":{quoted(account.retry)}}}\n'
        return self._plain_end

    def _render_asked(self, key: Asked) -> str:
        caller, caller_proof, client_address, method, route = key
        asked = {
            "caller": caller,
            "caller_proof": caller_proof,
            "client_address": client_address,
            "method": self._text(method),
            "route": route,
        }
        rendered = quoted(asked)[1:-1]
        if len(method) <= _LONGEST_METHOD:
            if len(self._asked) >= _RENDERED:
                self._asked.clear()
            self._asked[key] = rendered
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

    def _query_keys(self, query: str) -> str:
        """Return the names in *query*, which begins with a question mark; the values never enter a record."""
        pairs = query[1:].split("&")[:MOST_QUERY_KEYS] if len(query) > 1 else []
        return quoted([self._text(pair.partition("=")[0]) for pair in pairs])

    def _index(self, account: Account) -> str:
        """Return the index headers' values by name, masked; a name given twice has both values (RFC 9110 5.3)."""
        values: dict[str, str] = {}
        for name, given in account.index:
            value = self._mask.index(given if len(given) <= LONGEST_TEXT else cut(given))
            values[name] = f"{values[name]}, {value}" if name in values else value
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


def _milliseconds(seconds: float) -> str:
    """Return *seconds* in milliseconds with three decimals, 0 for less than none."""
    if seconds <= 0:
        return "0.000"
    micro = int(seconds * 1_000_000 + 0.5)
    return f"{micro // 1000}.{_THREE_DIGITS[micro % 1000]}"


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
