"""Reads what the bank's answer to an inquiry means; pure.

A "not found" lets somebody pay again, so whatever is not exactly what the rule describes is unclear.
"""

import json
from collections import Counter
from typing import Any, NamedTuple, NoReturn

from proxy.errors import MALFORMED
from proxy.keeper.inquiry import Verdict
from proxy.settings.inquiry import InquiryAnswerSection, InquirySection

LOOKED_AT_BYTES = 65536


class Reading(NamedTuple):
    """What an answer means; *why* it is unclear, "" if it is clear. No value of the bank's is in *why*."""

    verdict: Verdict
    why: str = ""


class _Unreadable(Exception):
    """The answer's member can't be read; the message says why."""


# Stands for a member that an object has more than once: RFC 8259 4 leaves open which of them counts.
_REPEATED = object()


def read_answer(inquiry: InquirySection, status: int, body: bytes, *, encoded: bool = False) -> Reading:
    """Return what the answer of *status* and *body* means by the rule's *inquiry*; unclear if it is neither, or both.

    *encoded*: it has a Content-Encoding, so *body* is not what the bank says.
    """
    found = _why_not(inquiry.found, status, body, encoded=encoded, empty=False)
    missing = _why_not(inquiry.not_found, status, body, encoded=encoded, empty=True)
    if bool(found) == bool(missing):
        return Reading(Verdict.UNCLEAR, _both(found, missing))
    return Reading(Verdict.NOT_FOUND if found else Verdict.FOUND)


def _both(found: str, missing: str) -> str:
    if not found:
        return "it means found and not found by the rule's inquiry"
    if found == missing:
        return found
    return f"no found: {found}; no not_found: {missing}"


def _why_not(wanted: InquiryAnswerSection, status: int, body: bytes, *, encoded: bool, empty: bool) -> str:
    """Return why the answer is not the one that is *wanted*, "" if it is."""
    if status != wanted.status:
        return f"status is not {wanted.status}"
    try:
        if wanted.body:
            _check_readable(encoded=encoded)
            if wanted.body.encode() not in body[:LOOKED_AT_BYTES]:
                return "the text that the rule names is not in it"
        if not wanted.member:
            return ""
        value = _member(wanted.member, body, encoded=encoded)
    except _Unreadable as error:
        return str(error)
    # Only of an empty list it is certain that the bank has looked, and has found nothing.
    holds = value == [] if empty else bool(value)
    return "" if holds else f"{wanted.member} is {_kind(value)}"


def _check_readable(*, encoded: bool) -> None:
    if encoded:
        raise _Unreadable("it is compressed, which was not asked for")


def _member(path: str, body: bytes, *, encoded: bool) -> Any:
    _check_readable(encoded=encoded)
    if len(body) > LOOKED_AT_BYTES:
        raise _Unreadable("it is longer than 64 KiB")
    value = _parsed(body)
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise _Unreadable(f"it has no member {path}")
        value = value[name]
        if value is _REPEATED:
            raise _Unreadable(f"it has the member {name} more than once")
    return value


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse)
    except MALFORMED:
        page = body.lstrip()[:1] == b"<"
        raise _Unreadable("it is a page or XML, not JSON" if page else "it can't be read as JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    return {name: value if counts[name] == 1 else _REPEATED for name, value in pairs}


def _refuse(_: str) -> NoReturn:
    raise ValueError  # NaN and Infinity are no JSON (RFC 8259 6)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "a number" if value else "0"
    name = "list" if isinstance(value, list) else "object" if isinstance(value, dict) else "text"
    return f"a {name} with something in it" if value else f"an empty {name}"
