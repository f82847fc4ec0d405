import json
import os
from pathlib import Path

import pytest

from proxy.records.merge import Merger
from proxy.records.record import lost_records
from proxy.records.stream import Position, Stream
from proxy.records.unanswered import requests_of
from proxy.request_summary import RequestSummary
from tests.records.faults import SlowDisk
from tests.records.support import CONTEXT, NOW, an_exchange, complete, open_journal
from tests.support.clock import ManualClock


class Reader:
    """A stream, its merger, and what a sink would have got."""

    def __init__(self, directory: Path) -> None:
        self.stream = Stream(directory / "stream")
        self.position = Position(1, 0, 0)
        self.merger = Merger(directory, self.stream, clock=ManualClock(), delivered=lambda: self.position)
        self.merger.open()

    def take(self) -> list[str]:
        """Return the ids that have come."""
        lines, self.position = self.stream.read(self.position)
        return [json.loads(line)["id"] for line in lines]


@pytest.fixture
async def exchanges(tmp_path: Path) -> list[RequestSummary]:
    """Return exchanges that a worker, which has ended, left in its journal."""
    exchanges = [an_exchange() for _ in range(10)]
    async with open_journal(tmp_path) as journal:
        for exchange in exchanges:
            await complete(journal, exchange)
    return exchanges


def test_an_append_that_failed_is_made_up_for(
    tmp_path: Path, exchanges: list[RequestSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read from the journals and did not get into the stream is read again."""
    reader = Reader(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", _no_space)
        with pytest.raises(OSError, match="full"):
            reader.merger.pump()
    assert reader.take() == []

    assert reader.merger.pump()

    assert reader.take() == [exchange.id for exchange in exchanges]
    reader.stream.close()


def test_records_are_counted_once(
    tmp_path: Path, exchanges: list[RequestSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what had to be read again; a record of records that were lost counts for these."""
    reader = Reader(tmp_path)
    [path] = (tmp_path / "journal").glob("*.jsonl")
    worker = path.stem.rpartition("-")[0]
    with path.open("ab") as file:
        file.write(lost_records(CONTEXT, id=exchanges[0].id, now=NOW, count=7, cause="the disk was full"))
    reader.merger.count(worker)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", _no_space)
        with pytest.raises(OSError, match="full"):
            reader.merger.pump()
    assert reader.merger.pump()
    assert reader.merger.pump()

    assert reader.merger.counted(worker) == len(exchanges) + 7
    assert reader.merger.counted(worker) == 0
    reader.stream.close()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"count":"x"}', b'{"count":null}', b'{"count":-3}', b"{}"])
def test_a_line_that_a_disk_has_changed_stands_for_no_request(text: bytes) -> None:
    """The difference is said, as of one that is missing."""
    assert requests_of(text) == 0


def test_a_journal_stays_until_the_stream_is_on_disk(
    tmp_path: Path, exchanges: list[RequestSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the stream can't be synced, the journal goes once every sink has its records."""
    reader = Reader(tmp_path)
    disk = SlowDisk(monkeypatch)
    disk.error = OSError(5, "Input/output error")
    reader.merger.pump()
    end = reader.stream.end
    reader.merger.pump()
    assert reader.stream.end == end
    disk.error = None
    reader.merger.pump()
    assert list((tmp_path / "journal").glob("*.jsonl"))

    assert reader.take() == [exchange.id for exchange in exchanges]
    reader.merger.pump()

    assert not list((tmp_path / "journal").iterdir())
    reader.stream.close()


def test_a_new_merger_goes_on_where_the_last_one_was(tmp_path: Path, exchanges: list[RequestSummary]) -> None:
    """Even if the journal is still there, its records don't come twice."""
    first = Reader(tmp_path)
    first.merger._may_remove = bool  # type: ignore[method-assign]
    first.merger.pump()
    first.stream.close()
    assert list((tmp_path / "journal").glob("*.jsonl"))

    second = Reader(tmp_path)
    second.merger.pump()

    assert second.take() == [exchange.id for exchange in exchanges]
    assert second.take() == []
    second.stream.close()


def _no_space(*_: object) -> int:
    raise OSError(28, "the disk is full")
