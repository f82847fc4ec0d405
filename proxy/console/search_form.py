"""The filters of the request log in a page's address: which there are, and the query that they make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from proxy.records.mask import KEYLESS
from proxy.records.query import Query, indexed, parse_status, parse_time

# Longer ones find nothing, as records keep no more.
_LONGEST = 1000
_LONGEST_NAME = 40

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form, named like the option of `payproxy logs search`."""

    name: str
    label: str
    example: str = ""
    choices: tuple[str, ...] = ()
    value: str = ""


FIELDS = (
    Field("caller", "Caller", "erp"),
    Field("route", "Route", "payments"),
    Field("status", "Status", "404 or 5xx"),
    Field("since", "Since", "2h, 7d, 2026-11-24"),
    Field("until", "Until (not included)", "as since"),
    Field("sent", "Sent to the bank", choices=("no", "yes", "unknown")),
    Field("open", "Unresolved only", choices=("yes",)),
    Field("origin", "Answer from", choices=("bank", "proxy")),
    Field("request_id", "Request-Id"),
    Field("idempotency_key", "Idempotency-Key"),
    Field("merchant", "Merchant"),
    Field("side", "Side", choices=("legacy", "modern")),
    Field("kind", "Kind", choices=("exchange", "inquiry", "operation", "configuration", "token", "lifecycle")),
)
_MASKED = (
    "card numbers, IBANs and tokens are masked in records. Search by what a record shows in their place, or with "
    "`payproxy logs search` on the machine"
)
_HEADERS = {"merchant": "merchant-id", "request_id": "request-id", "idempotency_key": "Idempotency-Key"}


class FilterUnusable(ValueError):
    """A filter can't be understood or can't match; the message names the field.

    *shown* are the fields to show again, without a value that no page must have.
    """

    def __init__(self, text: str, shown: tuple[Field, ...] = ()) -> None:
        super().__init__(text)
        self.shown = shown


def filled(values: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the fields with their *values*."""
    return tuple(
        Field(one.name, one.label, one.example, one.choices, values.get(one.name, "").strip()) for one in FIELDS
    )


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise FilterUnusable for the first of *names* in an address that is no filter, or comes again.

    It would look as if it applied.
    """
    known, seen = [one.name for one in FIELDS], set()
    for name in names:
        if name not in {*known, "before"}:
            shown = f'"{name}"' if len(name) <= _LONGEST_NAME and KEYLESS.index(name) == name else "one in the address"
            raise FilterUnusable(f"There is no filter {shown}; there are {', '.join(known)}")
        if name in seen:
            raise FilterUnusable(f"{name}: is in the address more than once")
        seen.add(name)


def query_of(fields: Sequence[Field], *, now: float) -> Query:
    """Return the query of the filled *fields*; times without a zone are local. Raises FilterUnusable.

    A value that records have masked only is refused: who may look could find the card number behind a mask by trying
    those that it leaves open, and the address with it would stay in the browser.
    """
    values = {one.name: one.value for one in fields}
    for one in fields:
        if len(one.value) > _LONGEST:
            raise FilterUnusable(f"{one.label}: is longer than {_LONGEST} characters")
        if one.name in _HEADERS and KEYLESS.index(one.value) != one.value:
            shown = tuple(replace(each, value="") if each is one else each for each in fields)
            raise FilterUnusable(f"{one.label}: {_MASKED}", shown)
        if one.choices and one.value and one.value not in one.choices:
            raise FilterUnusable(f"{one.label}: is one of {', '.join(one.choices)}")
    if values["open"] and values["sent"] != "unknown":
        raise FilterUnusable("Unresolved only: goes with Sent to the bank: unknown, since all others are settled")
    query = Query(
        kind=values["kind"],
        caller=values["caller"],
        route=values["route"],
        side=values["side"],
        origin=values["origin"],
        sent=values["sent"],
        status=_parsed("Status", values["status"], parse_status),
        since=_parsed("Since", values["since"], lambda text: parse_time(text, now=now, zone=None)),
        until=_parsed("Until", values["until"], lambda text: parse_time(text, now=now, zone=None)),
        indexed=tuple(indexed(header, values[name]) for name, header in _HEADERS.items() if values[name]),
    )
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise FilterUnusable("Until: the window is empty, it ends before it begins")
    return query


def _parsed(label: str, text: str, parse: Callable[[str], Parsed]) -> Parsed | None:
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise FilterUnusable(f"{label}: {error}") from None
