"""A record of the request log in words, for an auditor: one paragraph an exchange."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from proxy.records.inquiry_outcome import SETTLED_AFTER, asked_there, decisive, may_have_changed
from proxy.records.record_words import cell, left, signature
from proxy.records.unanswered import WORKER_ENDED
from proxy.telemetry.error_meanings import meaning_of, next_step_of
from proxy.text import printable
from proxy.times import duration, local_text

Record = Mapping[str, Any]
Inquiries = Sequence[dict[str, Any]]

_NUMBERS = ("", "once", "twice", "three times")
_BANK_HAS_IT = {
    "yes": "The bank has it: it answered.",
    "no": "The bank does not have it: nothing of it was sent.",
    "unknown": "It is not known whether the bank has it: it was handed to a connection that gave no whole answer.",
}
_SAID = {
    "found": "the bank has it",
    "not_found": "the bank has no request with these values",
    "unclear": "this does not say whether the bank has it",
}
_ASK = "ask the bank whether it has the request before it is sent again"
_ASK_DONE = "ask the bank whether it has executed the request before it is sent again"


def is_open(record: Record) -> bool:
    """Return whether *record* is an intent: there is no record of the exchange's end."""
    return record.get("kind") == "intent"


def bank_has_it(record: Record) -> str:
    """Return "yes", "no" or "unknown"."""
    return "unknown" if is_open(record) else cell(record.get("sent_upstream"))


def sends(record: Record) -> list[Record]:
    """Return the attempts of *record* that were handed to a connection, or are about to be."""
    if is_open(record):
        before = record.get("previous")
        this = {
            "started": record.get("started"),
            "token_fingerprint": record.get("token_fingerprint"),
            "sent": "unknown",
        }
        return [*([before] if isinstance(before, dict) else []), this]
    attempts = record.get("attempts")
    return [one for one in attempts if one.get("sent") != "no"] if isinstance(attempts, list) else []


def paragraph(record: Record, inquiries: Inquiries = ()) -> str:
    """Return in one paragraph who asked for what, by which rule, how often it was sent, and whether the bank has it.

    *inquiries* are the records of what the bank was asked about it, the oldest first.
    """
    sentences = [*_asked(record), *_decided(record), *_sent(record), *_answered(record), conclusion(record)]
    sentences += [*map(_inquired, inquiries), f"What to do: {next_step(record, inquiries)}", _evidence(record)]
    return _clean(" ".join(sentences))


def is_unresolved(record: Record) -> bool:
    """Return whether nobody knows if the bank has the exchange *record*, which may have changed something there."""
    return bank_has_it(record) == "unknown" and may_have_changed(record)


def conclusion(record: Record) -> str:
    """Return in a sentence whether the bank has the request."""
    if is_open(record):
        return "It is not known whether the bank has it: it has no end yet; it is in flight, or its worker crashed."
    if _failed_at_bank(record):
        return f"The bank received it: it answered {record['status']}, which does not say whether it was executed."
    return _BANK_HAS_IT.get(bank_has_it(record), _BANK_HAS_IT["unknown"])


def next_step(record: Record, inquiries: Inquiries = ()) -> str:
    """Return in a sentence what to do now, after what the bank said to *inquiries*."""
    if inquiries:
        return _after_inquiries(record, inquiries)
    if is_open(record):
        return f"ask again when `exchange_timeout` has passed; if it is the same then, {_ASK}."
    if not may_have_changed(record) and (bank_has_it(record) == "unknown" or _failed_at_bank(record)):
        return (
            f"send it again if its answer is still needed: a {cell(record.get('method'))} changes nothing at the bank."
        )
    if bank_has_it(record) == "unknown":
        return f"{_ASK}, by request id or Idempotency-Key."
    code = cell(record.get("code"))
    if code:
        return _lower(next_step_of(code, bank_has_it(record)))
    return _after_answer(record)


def _after_inquiries(record: Record, inquiries: Inquiries) -> str:
    decided, there = decisive(record, inquiries), asked_there(record, inquiries)
    if decided is None and there and there[-1].get("verdict") == "not_found":
        return (
            f"ask once more with `payproxy why {cell(record.get('id'))} --ask`: the bank was asked less than "
            f"{SETTLED_AFTER:g} s after the end of the request, which it may still have been working on. Don't send it "
            "again yet."
        )
    if decided is None:
        return f"{_ASK}: the inquiry did not settle it."
    if decided.get("verdict") == "found":
        return "don't send it again: the bank has it. Tell the caller."
    return (
        f"it may be sent again, with the same Idempotency-Key: the bank said at {local_text(decided.get('time'))} that "
        "it has no request with these values. This holds for that time: a request that is still on its way could "
        "arrive later."
    )


def _inquired(inquiry: Record) -> str:
    by = f' for "{inquiry["who"]}"' if inquiry.get("who") else ""
    side = f" on side {inquiry['side']}" if inquiry.get("side") else ""
    status, cause = inquiry.get("answer_status"), inquiry.get("cause")
    answer = f"answered {status}" if status else "gave no answer"
    return (
        f"At {local_text(inquiry.get('time'))} payproxy asked{by}{side}: {cell(inquiry.get('asked'))}; the bank "
        f"{answer}{f' ({cause})' if cause else ''}: {_SAID.get(cell(inquiry.get('verdict')), _SAID['unclear'])} "
        f"(record {cell(inquiry.get('id'))})."
    )


def said(inquiry: Record) -> str:
    """Return in a sentence what the bank said to *inquiry*."""
    status, cause = inquiry.get("answer_status"), cell(inquiry.get("cause"))
    answer = f"answered {status}" if status else "gave no answer"
    meaning = _SAID.get(cell(inquiry.get("verdict")), _SAID["unclear"])
    return f"The bank {answer}{f' ({cause})' if cause else ''}: {meaning}."


def _failed_at_bank(record: Record) -> bool:
    """Return whether the answer is the bank's own 5xx: the bank received the request, and may have executed it."""
    status = record.get("status")
    return bank_has_it(record) == "yes" and not cell(record.get("code")) and isinstance(status, int) and status >= 500


def _after_answer(record: Record) -> str:
    status = record.get("status")
    if _failed_at_bank(record):
        return f"{_ASK_DONE}, by request id or Idempotency-Key."
    if status in {401, 403}:
        return "look at the credential, its audience, and what the bank has granted: the bank refused the token."
    if isinstance(status, int) and status >= 400:
        return "the caller has to correct the request: the bank refused it."
    if record.get("caller_left") is True and bank_has_it(record) == "no":
        return "nothing: the caller left before it was sent, and may send it again."
    if record.get("caller_left") is True:
        return "tell the caller, who left before the answer: it must not send it again without asking."
    return "nothing."


def is_retry(record: Record, first: Record) -> bool:
    """Return whether *record*, which came after *first* with the same value, is a retry of it."""
    return record is not first and all(record.get(name) == first.get(name) for name in ("caller", "method", "path"))


def summary(records: Sequence[Record]) -> str:
    """Return in a sentence how many of *records*, of one value and in time order, the bank has."""
    counts = {word: sum(bank_has_it(one) == word for one in records) for word in ("yes", "unknown", "no")}
    sums = f"the bank has {counts['yes']}, it is not known of {counts['unknown']}, {counts['no']} were not sent"
    return f"{len(records)} requests have this value: {sums}."


def relation(record: Record, first: Record, number: int) -> str:
    """Return the heading of *record*, the one with that *number* (from 1) among those with a value."""
    if number == 1:
        return "Request 1, the first:"
    after = duration(_seconds(record) - _seconds(first))
    what = "a retry: the same caller, method and path" if is_retry(record, first) else "another caller, method or path"
    return f"Request {number}, {after} after the first, {what}:"


def _asked(record: Record) -> Iterator[str]:
    caller = f'the caller "{record["caller"]}"' if record.get("caller") else "a caller without a name"
    proof = f"proved by {record['caller_proof']}, " if record.get("caller_proof") else ""
    address = cell(record.get("client_address"))
    yield (
        f"On {local_text(record.get('time'), precise=True)} {caller} ({proof}address {address}) asked payproxy "
        f"({cell(record.get('environment'))}, instance {cell(record.get('instance'))}) for "
        f"{cell(record.get('method'))} {cell(record.get('path'))}."
    )
    index = record.get("index")
    if isinstance(index, dict) and index:
        yield f"It had {_pairs(index)}."


def _decided(record: Record) -> Iterator[str]:
    if not record.get("route"):
        yield "No rule applied to it."
        return
    side = f"side {record['side']}, " if record.get("side") else ""
    audience = f" for {record['audience']}" if record.get("audience") else ""
    yield (
        f'Rule "{record["route"]}" applied: upstream {cell(record.get("upstream"))}, {side}a token of the credential '
        f'"{cell(record.get("credential"))}"{audience} ({cell(record.get("why"))}).'
    )


def _sent(record: Record) -> Iterator[str]:
    found = sends(record)
    if not found:
        yield "It was not sent."
        return
    often = _NUMBERS[len(found)] if len(found) < len(_NUMBERS) else f"{len(found)} times"
    answered = ", the answer is not on record" if _worker_ended(record) else ", without an answer"
    said = "; then ".join(_send(each, unanswered=answered) for each in found)
    yield f"It was {'to be ' if is_open(record) else ''}sent {often}: {said}."
    if how := signature(record):
        yield f"In place of its body the bank got {how}."


def _worker_ended(record: Record) -> bool:
    """Return whether the outcome is missing because the worker process was killed: the answer may have been sent."""
    return record.get("note") == WORKER_ENDED


def _send(attempt: Record, *, unanswered: str) -> str:
    side = f" on side {attempt['side']}" if attempt.get("side") else ""
    token = cell(attempt.get("token_fingerprint"))
    what = f"at {local_text(attempt.get('started'), precise=True)[11:]} with token {token}"
    status = attempt.get("status")
    answer = f", which the bank answered with {status} after {cell(attempt.get('wait_ms'))} ms" if status else ""
    return f"{what}{side}{answer or ('' if 'status' not in attempt else unanswered)}"


def _answered(record: Record) -> Iterator[str]:
    if is_open(record):
        return
    code, status = cell(record.get("code")), record.get("status")
    if _worker_ended(record):
        known = f", before {local_text(record['ended'], precise=True)[11:]}" if record.get("ended") else ""
        yield f"Its worker process ended unexpectedly{known}: whether the caller got an answer is not known."
    elif not status:
        yield "The caller got no answer."
    elif record.get("origin") == "bank":
        yield f"The caller got the bank's answer, {status}, after {cell(record.get('duration_ms'))} ms."
    else:
        cause = f" Cause: {record['cause']}." if record.get("cause") else ""
        yield f"The caller got {status} {code} from the proxy. {meaning_of(code)}{cause}"
    if record.get("caller_left") is True:
        yield f"The {left(record)}."
    answered = record.get("answer_index")
    if isinstance(answered, dict) and answered:
        yield f"The bank's answer had {_pairs(answered)}."


def _evidence(record: Record) -> str:
    number = f", number {record['sequence']} of its chain, hash {record['hash']}" if record.get("hash") else ""
    return f"{'Intent' if is_open(record) else 'Record'} {cell(record.get('id'))}{number}."


def _pairs(index: Mapping[str, Any]) -> str:
    return ", ".join(f'{name} "{value}"' for name, value in index.items())


def _seconds(record: Record) -> float:
    return datetime.fromisoformat(str(record["time"])).timestamp()


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _clean(text: str) -> str:
    """Return *text* on one line and without control characters."""
    return " ".join(printable(text, other="\N{REPLACEMENT CHARACTER}", keep="\n\t").split())
