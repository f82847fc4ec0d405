"""The pages of the request log: a search, and one request with all that happened to it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from proxy.console.page import Cell, Facts, PageContent, Table, Tone, Words
from proxy.console.search_form import Field
from proxy.console.time_spent import time_spent
from proxy.console.why_text import conclusion, is_unresolved, paragraph
from proxy.records.months import time_of
from proxy.records.record_words import Record, cell, happened, summary
from proxy.times import local, local_text

PATH = "/console/requests"
COLUMNS = ("time", "caller", "what", "status", "sent", "ms", "id")
_EXCHANGES = frozenset({"exchange", "intent"})
# A repeated payment must be a decision of its caller's.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_TONES = {"unknown": Tone.BAD, "yes": Tone.PLAIN, "no": Tone.PLAIN}
_FACTS = (
    *("time", "kind", "caller", "caller_proof", "client_address", "method", "path", "route", "why", "upstream"),
    *("upstream_url", "credential", "client_digest", "audience", "side", "status", "origin", "code", "cause", "note"),
    *("sent_upstream", "replayed", "caller_left", "ended", "duration_ms", "overhead_ms", "request_bytes"),
    *("response_bytes", "body_hmac", "signature", "environment", "instance", "sequence", "hash", "config_digest"),
)


def found_page(
    records: Sequence[Record],
    fields: Sequence[Field],
    *,
    before: bytes | None = None,
    full: bool = False,
    continued: bool = False,
    problem: str = "",
) -> PageContent:
    """Return the page of the found *records*, the newest first; the next page starts before the id *before*, if any.

    If it is not *full*, the search has ended early there. *continued*: there is a page of newer ones. *problem* is why
    there was no search.
    """
    filters = {one.name: one.value for one in fields if one.value}
    asked = f"?{urlencode(filters)}" if filters else ""
    following = before.hex() if before else ""
    older = f"{PATH}?{urlencode(filters | {'before': following})}" if before else ""
    searched = f"Searched back to {local(time_of(before))}: {len(records)} found." if before and not full else ""
    table = Table(
        title="Newest first",
        columns=COLUMNS,
        rows=tuple(map(row, records)),
        empty=_nothing(filters, more=bool(before), continued=continued),
    )
    return PageContent(
        path=PATH,
        title="Requests",
        twin=f"{PATH}.json{asked}",
        data={"records": records, "before": following} | ({"problem": problem} if problem else {}),
        lead=problem,
        tone=Tone.BAD if problem else Tone.PLAIN,
        status=400 if problem else 200,
        blocks=() if problem else (table,),
        template="requests.html",
        more={
            "fields": fields,
            "action": PATH,
            "older": older,
            "searched": searched,
            "live": f"{PATH}/tail{asked}",
        },
    )


def _nothing(filters: Mapping[str, str], *, more: bool, continued: bool) -> str:
    if more:
        return "Nothing was found so far."
    if continued:
        return "There are no older ones."
    if filters:
        return "Nothing was found. Take filters away to see more."
    return "The request log has no record yet. Try `payproxy request GET /payment/helloworld`."


def request_page(record: Record, inquiries: Sequence[dict[str, Any]] = ()) -> PageContent:
    """Return the page of *record*: in words, as a timeline, its attempts, and its members.

    *inquiries* are what the bank was asked about it, the oldest first.
    """
    record_id = cell(record.get("id"))
    of_exchange = record.get("kind") in _EXCHANGES
    unknown = of_exchange and is_unresolved(record)
    return PageContent(
        path=PATH,
        title=f"Request {record_id}" if of_exchange else f"Record {record_id}",
        twin=f"{PATH}/{record_id}.json",
        data=dict(record),
        lead=conclusion(record) if of_exchange else summary(record),
        tone=Tone.BAD if unknown else Tone.PLAIN,
        blocks=(
            *(_of_exchange(record, inquiries) if of_exchange else ()),
            Facts(title="Record", rows=tuple(_facts(record))),
        ),
    )


def row(record: Record) -> tuple[Cell, ...]:
    """Return the cells of *record* in a table with COLUMNS."""
    record_id = cell(record.get("id"))
    of_exchange = record.get("kind") in _EXCHANGES
    what = f"{cell(record.get('method'))} {cell(record.get('path'))}" if of_exchange else summary(record)
    sent = cell(record.get("sent_upstream"))
    return (
        Cell(local_text(record.get("time"), precise=True)),
        Cell(cell(record.get("caller"))),
        Cell(what if of_exchange else f"{cell(record.get('kind'))}: {what}"),
        Cell(" ".join(filter(None, (cell(record.get("status")), cell(record.get("code"))))), _status_tone(record)),
        Cell(sent, _TONES.get(sent, Tone.PLAIN)),
        Cell(cell(record.get("duration_ms")), number=True),
        Cell(record_id, href=f"{PATH}/{record_id}"),
    )


def _status_tone(record: Record) -> Tone:
    status = record.get("status")
    if not isinstance(status, int) or status < 400:
        return Tone.PLAIN
    return Tone.BAD if status >= 500 else Tone.WARN


def _of_exchange(record: Record, inquiries: Sequence[dict[str, Any]]) -> Iterator[Words | Table]:
    yield Words(title="In words", text=paragraph(record, inquiries))
    if record.get("kind") == "exchange":
        yield Table(
            title="Timeline",
            columns=("after", "what"),
            rows=tuple((Cell(at, number=True), Cell(what)) for at, what in happened(record)),
            empty="",
        )
    if spent := time_spent(record):
        yield spent
    attempts = record.get("attempts")
    if isinstance(attempts, list) and attempts:
        names = tuple(dict.fromkeys(name for one in attempts for name in one))
        rows = tuple(tuple(Cell(_of_attempt(name, one.get(name))) for name in names) for one in attempts)
        yield Table(title="Attempts", columns=tuple(map(_words, names)), rows=rows, empty="")
    if record.get("method") in _REPEATABLE:
        yield Words(title="Again, with curl (PAYPROXY is the URL of the proxy)", text=_curl(record), code=True)


def _of_attempt(name: str, value: Any) -> str:
    if name == "started":
        return local_text(value, precise=True)
    return "no answer" if name == "status" and value == 0 else cell(value)


def _curl(record: Record) -> str:
    """Return a command for the same request; who runs it adds its own key, and no token is needed."""
    return f'curl -i -X {cell(record.get("method"))} "$PAYPROXY"{shlex.quote(cell(record.get("path")))}'


def _facts(record: Record) -> Iterator[tuple[str, Cell]]:
    shown = [name for name in _FACTS if record.get(name) not in (None, "", False)]
    if record.get("kind") not in _EXCHANGES:
        shown += [name for name in record if name not in _FACTS and name not in {"id", "previous_hash"}]
    for name in shown:
        yield _words(name), Cell(_value(record[name]))
    for member, whose in (("index", ""), ("answer_index", "answer's ")):
        index = record.get(member)
        if isinstance(index, dict):
            yield from ((f"{whose}{name}", Cell(str(value))) for name, value in index.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {one}" for name, one in value.items())
    return cell(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
