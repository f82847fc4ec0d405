import json
from pathlib import Path

from proxy.records.archives.stream_spool import Spool
from proxy.records.json_line import INTENT
from proxy.records.query import Indexed, Query, StatusRange
from proxy.records.record import RecordBuilder
from proxy.records.segment import STREAM
from proxy.records.stream import Progress, Stream
from tests.records.kept import MASK, id_of, inquiry, record
from tests.records.support import (
    CONTEXT,
    NOW,
    MemorySink,
    an_exchange,
    complete,
    intend,
    open_journal,
    running_shipper,
    until,
)


def stream_of(directory: Path, batches: list[list[bytes]], *, segment_bytes: int = 4096) -> Stream:
    """Return a stream with *batches*."""
    stream = Stream(directory / STREAM, segment_bytes=segment_bytes)
    stream.open()
    for batch in batches:
        stream.append(batch, Progress())
    return stream


async def test_the_newest_come_in_order_across_segments(tmp_path: Path) -> None:
    """Without the marks that the keeper puts between records."""
    batches = [[record(path=f"/{batch}/{number}") for number in range(3)] for batch in range(10)]
    stream_of(tmp_path, batches).close()

    found = [json.loads(line) for line in await Spool(tmp_path).newest(8, Query())]
    assert [one["path"] for one in found] == [f"/{at // 3}/{at % 3}" for at in range(22, 30)]
    assert len(await Spool(tmp_path).newest(100, Query())) == 30
    assert await Spool(tmp_path).newest(0, Query()) == []


async def test_records_of_another_kind_are_found(tmp_path: Path) -> None:
    """Those of the keeper, in the stream or still in its journal."""
    one, other = inquiry("a"), inquiry("b")
    stream_of(tmp_path, [[record(), one], [other]]).close()
    async with open_journal(tmp_path, worker="keeper-1") as journal:
        await journal.write(later := inquiry("a", NOW + 1) + b"\n")
        found = await Spool(tmp_path).of_kind(Query(kind="inquiry", indexed=(Indexed("exchange", "a"),)))

    ids = {json.loads(line)["id"] for line in found}
    assert (len(found), ids) == (2, {json.loads(line)["id"] for line in (one, later)})


async def test_news_are_followed_into_new_segments(tmp_path: Path) -> None:
    """Each record once; a line that is being written is waited for."""
    stream = stream_of(tmp_path, [[record()]])
    spool = Spool(tmp_path)
    assert await spool.new_records() == []
    seen = []
    for batch in range(10):
        stream.append([record(path=f"/{batch}")], Progress())
        seen += [json.loads(line)["path"] for line in await spool.new_records()]
    assert seen == [f"/{batch}" for batch in range(10)]

    stream.close()
    last = max((tmp_path / STREAM).iterdir(), key=lambda path: int(path.stem.rpartition("-")[2]))
    with last.open("ab") as file:
        file.write(b'{"kind":"exch')
    assert await spool.new_records() == []


async def test_a_data_directory_without_a_stream_is_empty(tmp_path: Path) -> None:
    """Before the first start."""
    spool = Spool(tmp_path)
    assert await spool.newest(10, Query()) == []
    assert await spool.new_records() == []
    assert await spool.by_id(bytes(16)) is None


async def test_a_record_is_found_wherever_it_is(tmp_path: Path) -> None:
    """In the stream, in a journal, or, while it is in flight, by its latest intent."""
    done, flying = an_exchange(), an_exchange()
    async with open_journal(tmp_path) as journal:
        await intend(journal, flying)
        await complete(journal, done)
        spool = Spool(tmp_path)
        await until(lambda: b'"exchange"' in (tmp_path / "journal" / "w1-1.jsonl").read_bytes())
        for exchange in (done, flying):
            found = await spool.by_id(bytes.fromhex(exchange.id.replace("-", "")))
            assert found is not None
            assert found.startswith(INTENT) == (exchange is flying)
        sink = MemorySink()
        async with running_shipper(tmp_path, sink):
            await until(lambda: sink.records)
            found = await spool.by_id(bytes.fromhex(done.id.replace("-", "")))
            assert found is not None
            assert json.loads(found)["sequence"] == 1
        assert await spool.by_id(id_of(record())) is None


async def test_the_newest_that_are_wanted_come_from_as_far_back_as_they_are(tmp_path: Path) -> None:
    """Not only those among the last ones; lines that can't be read are none."""
    records = [record(NOW + at, path=f"/{at}", status=500 if at < 3 else 200) for at in range(30)]
    stream_of(tmp_path, [records[:15], [b'{"kind":"exch', b"[]"], records[15:]]).close()

    async def newest(number: int, query: Query) -> list[str]:
        return [json.loads(line)["path"] for line in await Spool(tmp_path).newest(number, query)]

    assert await newest(2, Query(status=StatusRange(500, 599))) == ["/1", "/2"]
    assert await newest(10, Query(since=NOW + 5, until=NOW + 8)) == ["/5", "/6", "/7"]
    assert len(await newest(100, Query())) == 30


async def test_an_intent_is_found_whose_segment_is_gone(tmp_path: Path) -> None:
    """A request that takes long outlives it: the stream's last mark has the intent, until its record comes."""
    flying = an_exchange()
    builder = RecordBuilder(CONTEXT, MASK)
    intents = [builder.intent(flying, attempt)[:-1] for attempt in flying.attempts * 2]
    intents[1] = intents[1].replace(b'"attempt":1', b'"attempt":2')
    wanted = bytes.fromhex(flying.id.replace("-", ""))
    stream = stream_of(tmp_path, [[record()]])
    stream.append([record()], Progress(carried={"w1": [intent.decode() for intent in intents]}))
    assert await Spool(tmp_path).by_id(wanted) == intents[1]
    assert await Spool(tmp_path).by_id(id_of(record())) is None

    stream.append([builder.exchange(flying)], Progress())
    stream.close()
    found = await Spool(tmp_path).by_id(wanted)
    assert found is not None
    assert json.loads(found)["kind"] == "exchange"
