"""Ask the bank by way of the running instance whether it has a request, and find what was asked before."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from proxy.cli.instance import ask
from proxy.cli.log_database import configured_database, opened
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.audit_records import INQUIRY_ABOUT
from proxy.records.query import Archive, Indexed, Query, header_word
from proxy.settings.model import Settings

Record = dict[str, Any]

# A copy of the name in proxy/keeper/inquiries.py: commands do not import the keeper.
PATH = "/api/inquiries"
# The instance asks one at a time, and waits at most 15 s for each of connecting, sending and the answer.
_SECONDS = 120.0
# The bank works at most 70 s on a payment, and the request may have been on its way before that. An earlier "not found"
# says nothing.
SETTLED_AFTER = 90.0

_PAGE = 500
_MEMBERS = ("id", "route", "environment", "upstream", "credential", "audience", "side")


def ask_bank(settings: Settings, record: Mapping[str, Any]) -> Record:
    """Have the running instance ask the bank about the exchange *record*; return the record of the inquiry.

    Raises NotRunning, or Denied with the reason why it was not asked.
    """
    values = {name: record.get(name, "") for name in _MEMBERS} | {"index": record.get("index") or {}}
    answer: Record = ask(Path(settings.data_directory), PATH, values, timeout=_SECONDS)["record"]
    return answer


async def inquiries_about(
    settings: Settings, database_file: Path | None, records: Sequence[Mapping[str, Any]]
) -> dict[str, list[Record]]:
    """Return the inquiries about the exchanges *records* by the exchange's id, the oldest first."""
    queries = [
        Query(kind="inquiry", indexed=(Indexed(header_word(INQUIRY_ABOUT), str(one["id"])),))
        for one in records
        if one.get("sent_upstream") == "unknown"
    ]
    if not queries:
        return {}
    spool = Spool(Path(settings.data_directory))
    found = [object_in(line) for query in queries for line in await spool.of_kind(query)]
    database = configured_database(settings, database_file)
    if database is not None:
        async with opened(database) as archive:
            for query in queries:
                found += [one async for one in every(archive, query)]
    return by_exchange(found)


async def inquiries_since(settings: Settings, archive: Archive, since: float | None) -> dict[str, list[Record]]:
    """Return all inquiries since epoch seconds *since* by their exchange's id, the oldest first."""
    query = Query(kind="inquiry", since=since)
    recent = await Spool(Path(settings.data_directory)).of_kind(query)
    return by_exchange([*map(object_in, recent), *[one async for one in every(archive, query)]])


async def every(archive: Archive, query: Query) -> AsyncIterator[Record]:
    """Yield all records of *archive* that match *query*, the newest first."""
    before: bytes | None = None
    while True:
        page = await archive.page(query, before=before, size=_PAGE)
        for line in page.records:
            yield object_in(line)
        before = page.before
        if before is None:
            return


def by_exchange(inquiries: Iterable[Record]) -> dict[str, list[Record]]:
    """Return *inquiries* by the id of their exchange, each once, the oldest first."""
    grouped: dict[str, list[Record]] = {}
    for one in sorted({one["id"]: one for one in inquiries}.values(), key=lambda one: str(one["time"])):
        grouped.setdefault(exchange_of(one), []).append(one)
    return grouped


def exchange_of(inquiry: Mapping[str, Any]) -> str:
    """Return the id of the exchange that *inquiry* is about."""
    index = inquiry.get("index")
    return str(index.get(INQUIRY_ABOUT, "")) if isinstance(index, dict) else ""


def decisive(record: Mapping[str, Any], inquiries: Sequence[Record]) -> Record | None:
    """Return the inquiry that settles the outcome of the exchange *record*, None if none does.

    Once found is found. A "not found" counts only SETTLED_AFTER the end of the exchange: before that, the bank may
    still be working on it.
    """
    found = next((one for one in inquiries if one.get("verdict") == "found"), None)
    if found is not None:
        return found
    late = [one for one in inquiries if one.get("verdict") == "not_found" and is_late_enough(record, one)]
    return late[-1] if late else None


def is_settled(line: bytes, inquiries: Mapping[str, Sequence[Record]]) -> bool:
    """Return whether one of *inquiries*, by the exchange's id, settles the outcome of the exchange in *line*."""
    record = object_in(line)
    return decisive(record, inquiries.get(str(record.get("id")), ())) is not None


def is_late_enough(record: Mapping[str, Any], inquiry: Mapping[str, Any]) -> bool:
    """Return whether *inquiry* was made SETTLED_AFTER the exchange *record* had ended."""
    ended = datetime.fromisoformat(str(record["time"])) + timedelta(milliseconds=float(record.get("duration_ms") or 0))
    # The record of an exchange whose worker ended has no duration.
    sent = [datetime.fromisoformat(str(one["started"])) for one in record.get("attempts") or ()]
    return (datetime.fromisoformat(str(inquiry["time"])) - max([ended, *sent])).total_seconds() >= SETTLED_AFTER
