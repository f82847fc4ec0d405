"""Finds what the bank was asked about requests of unknown outcome: in the log, and in what is on its way there."""

import asyncio
from collections.abc import Mapping, Sequence

from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.audit_records import INQUIRY_ABOUT
from proxy.records.inquiry_outcome import Record, by_exchange, decisive, may_have_changed
from proxy.records.paging import all_lines
from proxy.records.query import Archive, Indexed, Query, header_word


def about(record_id: str) -> Query:
    """Return the query for the inquiries about the exchange *record_id*."""
    return Query(kind="inquiry", indexed=(Indexed(header_word(INQUIRY_ABOUT), record_id),))


async def inquiries(archive: Archive | None, spool: Spool, query: Query) -> dict[str, list[Record]]:
    """Return the inquiries that match *query* by their exchange's id, the oldest first; raises ArchiveUnusable.

    Without an *archive*, those on their way. They are parsed in a thread: there may be thousands.
    """
    lines = await spool.of_kind(query)
    if archive is not None:
        lines += [line async for line in all_lines(archive, query)]
    return await asyncio.to_thread(lambda: by_exchange(map(object_in, lines)))


def is_settled(record: Record, asked: Mapping[str, Sequence[Record]]) -> bool:
    """Return whether nobody need ask about the exchange *record* any more.

    One of the inquiries *asked*, by their exchange's id, has settled its outcome, or it can have changed nothing.
    """
    return not may_have_changed(record) or decisive(record, asked.get(str(record.get("id")), ())) is not None
