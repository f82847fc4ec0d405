"""What both databases find: the same."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.errors import Sent
from proxy.records.archives.postgres import PostgresArchive
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.mask import Mask
from proxy.records.months import Month
from proxy.records.query import Archive, ArchiveUnusable, Query, StatusRange, indexed
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from tests.records.kept import id_of, inquiry, kept, operation, record
from tests.records.postgres import Postgres, execute

FEBRUARY = 1_801_440_000.0  # 2027-02-01
HOUR = 3600.0
CALLERS = ("erp", "crm", "shop")


def log() -> list[bytes]:
    """Return 90 records, a minute apart, half of them of January."""
    records = []
    for number in range(90):
        at = FEBRUARY + (number - 45) * 60
        values = {"merchant-id": f"m{number % 2}", "requestId": f"r{number}"}
        records.append(
            record(
                at,
                caller=CALLERS[number % 3],
                route="reports" if number % 10 == 1 else "payments",
                status=502 if number == 7 else 404 if number % 10 == 3 else 200,
                origin="proxy" if number == 7 else "bank",
                side="legacy" if number == 11 else "modern",
                sent=Sent.UNKNOWN if number in {7, 60} else Sent.YES,
                index=tuple(values.items()),
            )
            if number != 50
            else operation(at)
        )
    return kept(records)


@pytest.fixture(params=["sqlite", "sqlite sealed", "postgres"])
async def filled(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Callable[[], Archive], Sink, list[bytes]]]:
    """Yield what opens an archive of the log, its sink, and the log."""
    sink: Sink
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        await execute(server.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
        url = server.url()
        sink = PostgresSink(url)
        opened: Callable[[], Archive] = lambda: PostgresArchive(url)  # noqa: E731 - one line of two
    else:
        sink = SqliteSink(tmp_path / "requests.db", seal_rows=16 if "sealed" in request.param else 10_000)
        opened = lambda: SqliteArchive(tmp_path / "requests.db")  # noqa: E731
    lines = log()
    for at in range(0, 90, 9):
        await sink.write(lines[at : at + 9])
    yield opened, sink, lines
    await sink.close()


@asynccontextmanager
async def closing(archive: Archive) -> AsyncIterator[Archive]:
    """Yield *archive* and close it."""
    try:
        yield archive
    finally:
        await archive.close()


async def everything(archive: Archive, query: Query, *, size: int = 1000) -> list[bytes]:
    """Return all pages of what *query* finds."""
    found: list[bytes] = []
    before: bytes | None = None
    while True:
        page = await archive.page(query, before=before, size=size)
        assert len(page.records) <= size
        found += page.records
        before = page.before
        if before is None:
            return found


Filled = tuple[Callable[[], Archive], Sink, list[bytes]]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (Query(), range(90)),
        (Query(caller="crm"), [number for number in range(1, 90, 3) if number != 50]),
        (Query(caller="crm", since=FEBRUARY, until=FEBRUARY + HOUR / 2), [46, 49, 52, 55, 58, 61, 64, 67, 70, 73]),
        (Query(since=FEBRUARY - 120, until=FEBRUARY), [43, 44]),
        (Query(until=FEBRUARY - 43 * 60), [0, 1]),
        (Query(since=FEBRUARY + 44 * 60), [89]),
        (Query(route="reports"), range(1, 90, 10)),
        (Query(route="report"), []),
        (Query(status=StatusRange(500, 599)), [7]),
        (Query(status=StatusRange(404, 404)), range(3, 90, 10)),
        (Query(status=StatusRange(404, 404), caller="erp"), [3, 33, 63]),
        (Query(status=StatusRange(500, 599), caller="erp"), []),
        (Query(status=StatusRange(0, 0)), []),
        (Query(origin="proxy"), [7]),
        (Query(side="legacy"), [11]),
        (Query(sent="unknown"), [7, 60]),
        (Query(sent="unknown", since=FEBRUARY), [60]),
        (Query(sent="unknown", status=StatusRange(500, 599), caller="crm", kind="exchange"), [7]),
        (Query(kind="operation"), [50]),
        (Query(kind="lifecycle"), []),
        (Query(kind="exchange", status=StatusRange(200, 299), route="reports", origin="bank"), range(1, 90, 10)),
        (Query(indexed=(indexed("request-id", "r33", None),)), [33]),
        (Query(indexed=(indexed("request-id", "r88", None),)), [88]),
        (Query(indexed=(indexed("merchant-id", "r33", None),)), []),
        (Query(indexed=(indexed("request-id", "r3", None),), caller="erp"), [3]),
        (Query(indexed=(indexed("merchantId", "m0", None),)), [number for number in range(0, 90, 2) if number != 50]),
        (Query(indexed=(indexed("merchantId", "m1", None),), sent="unknown"), [7]),
        (Query(indexed=(indexed("merchantId", "m1", None), indexed("requestId", "r9", None))), [9]),
        (Query(indexed=(indexed("merchantId", "m1", None), indexed("requestId", "r8", None))), []),
        (Query(indexed=(indexed("merchantId", "m1", None),), since=FEBRUARY + 40 * 60), [85, 87, 89]),
    ],
)
async def test_searches_find_what_they_ask_for(filled: Filled, query: Query, numbers: list[int]) -> None:
    """The newest first, whole or page by page."""
    opened, _, lines = filled
    wanted = [lines[number] for number in numbers][::-1]
    async with closing(opened()) as archive:
        assert await everything(archive, query) == wanted
        assert await everything(archive, query, size=3) == wanted


async def test_inquiries_are_found_by_their_exchange(filled: Filled) -> None:
    """Each about its own request, and only with that kind."""
    opened, sink, lines = filled
    ids = [json.loads(lines[number])["id"] for number in (7, 60)]
    asked = [inquiry(one, FEBRUARY + 2 * HOUR + number) for number, one in enumerate([*ids, ids[0]])]
    await sink.write(asked)

    async with closing(opened()) as archive:
        query = Query(kind="inquiry", indexed=(indexed("exchange", ids[0], None),))
        assert await everything(archive, query) == [asked[2], asked[0]]
        assert len(await everything(archive, Query(kind="inquiry"))) == 3


async def test_records_are_found_by_id(filled: Filled) -> None:
    """Byte for byte; what is not there is not found, in no month and in none that there is."""
    opened, _, lines = filled
    async with closing(opened()) as archive:
        for line in lines[::13]:
            assert await archive.by_id(id_of(line)) == line
        for absent in (id_of(record(FEBRUARY)), id_of(record(FEBRUARY + 400 * 86400)), bytes(16)):
            assert await archive.by_id(absent) is None


async def test_news_come_once_and_in_order(filled: Filled) -> None:
    """Whatever their ids are: a request that took long has an old one."""
    opened, sink, lines = filled
    more = kept([*lines, *(record(FEBRUARY - number * 60) for number in range(1, 9))])[90:]
    async with closing(opened()) as archive:
        assert await archive.new_records() == []
        await sink.write(more[:5])
        await sink.write(more[5:])
        assert await archive.new_records() == more
        assert await archive.new_records() == []


async def test_months_are_told_and_forgotten(filled: Filled) -> None:
    """With how far the chain went in each."""
    opened, sink, lines = filled
    january, february = Month(2027, 1), Month(2027, 2)
    async with closing(opened()) as archive:
        assert await archive.months() == [january, february]
        records, stones = await archive.ranges(january)
        assert (records, [(one.instance, one.first, one.last) for one in stones]) == (45, [("host-1", 1, 45)])
        assert stones[0].hash == json.loads(lines[44])["hash"]
        await archive.forget(january, records=45)
        assert await archive.months() == [february]
        assert await everything(archive, Query()) == lines[45:][::-1]

        await _again(sink, lines[:1])
        assert await archive.months() == [january, february]
        assert await archive.by_id(id_of(lines[0])) == lines[0]


async def test_a_month_that_grew_is_not_forgotten(filled: Filled) -> None:
    """What came since it was counted stands on no tombstone; what comes after its end begins the month anew."""
    opened, sink, lines = filled
    january = Month(2027, 1)
    late = kept([*lines, record(FEBRUARY - 1), record(FEBRUARY - 2)])[90:]
    async with closing(opened()) as archive:
        await sink.write(late[:1])
        with pytest.raises(ArchiveUnusable, match=r"more records of 2027-01 .* not deleted"):
            await archive.forget(january, records=45)
        assert (await archive.ranges(january))[0] == 46

        await archive.forget(january, records=46)
        await _again(sink, late[1:])
        assert await everything(archive, Query(until=FEBRUARY)) == late[1:]


async def test_what_is_no_record_is_passed_over(filled: Filled) -> None:
    """Half a line is kept like all else, and found by nobody."""
    opened, sink, lines = filled
    await sink.write([b'{"kind":"exch', b"[]"])
    async with closing(opened()) as archive:
        assert await everything(archive, Query()) == lines[::-1]


async def _again(sink: Sink, lines: list[bytes]) -> None:
    """Write *lines* as the shipper does: again if they were not taken."""
    try:
        await sink.write(lines)
    except OSError:
        await sink.write(lines)


async def test_a_value_is_found_with_whichever_key_it_was_masked(
    filled: tuple[Callable[[], Archive], Sink, list[bytes]],
) -> None:
    """Two instances, or one before and after it shared a state, have put it there."""
    opened, sink, _ = filled
    card = "4111111111111111"
    masks = [Mask(bytes([number]) * 32) for number in range(3)]
    lines = kept(
        record(FEBRUARY + number, index=(("merchant-id", mask.index(card)),)) for number, mask in enumerate(masks)
    )
    await sink.write(lines)

    async with closing(opened()) as archive:
        for wanted in (masks[:1], masks[:2], masks[::-1]):
            query = Query(indexed=(indexed("merchant-id", card, *wanted),))
            found = await everything(archive, query)
            assert sorted(found) == sorted(line for line, mask in zip(lines, masks, strict=True) if mask in wanted)
