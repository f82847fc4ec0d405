"""Ask the bank by way of the running instance whether it has a request, and find what was asked before."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.cli.instance import ask
from proxy.cli.log_database import configured_database, opened
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.audit_records import INQUIRY_ABOUT
from proxy.records.inquiry_outcome import by_exchange, decisive
from proxy.records.query import Archive, Indexed, Query, header_word
from proxy.settings.model import Settings

Record = dict[str, Any]

# A copy of the name in proxy/keeper/inquiries.py: commands do not import the keeper.
PATH = "/api/inquiries"
# The instance asks one at a time, and waits at most 15 s for each of connecting, sending and the answer.
_SECONDS = 120.0

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


def is_settled(line: bytes, inquiries: Mapping[str, Sequence[Record]]) -> bool:
    """Return whether one of *inquiries*, by the exchange's id, settles the outcome of the exchange in *line*."""
    record = object_in(line)
    return decisive(record, inquiries.get(str(record.get("id")), ())) is not None
