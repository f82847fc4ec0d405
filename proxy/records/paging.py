"""Reads an archive page by page, the newest records first."""

from collections.abc import AsyncIterator

from proxy.records.query import Archive, Enough, Page, Query, all_of_it

_AT_ONCE = 500


async def pages(
    archive: Archive, query: Query, *, before: bytes | None = None, size: int = _AT_ONCE, enough: Enough = all_of_it
) -> AsyncIterator[Page]:
    """Yield the pages of what matches *query*, from the id *before* back, until the log's end or until it is *enough*.

    Raises ArchiveUnusable.
    """
    while True:
        page = await archive.page(query, before=before, size=size, enough=enough)
        yield page
        before = page.before
        if before is None or enough():
            return


async def all_lines(archive: Archive, query: Query) -> AsyncIterator[bytes]:
    """Yield all records that match *query*, the newest first; raises ArchiveUnusable."""
    async for page in pages(archive, query):
        for line in page.records:
            yield line
