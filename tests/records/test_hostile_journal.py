"""A worker that has been taken over writes what it likes into its journal: no line of it may end the keeper."""

import fcntl
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.errors import Sent
from proxy.events import Event, RecordsNotEvaluated, SinkFailed
from proxy.keeper import automatic_inquiries, recent_exchanges
from proxy.keeper.automatic_inquiries import AutomaticInquiries
from proxy.keeper.inquiry import Verdict
from proxy.keeper.recent_exchanges import RecentExchanges
from proxy.records.json_line import EXCHANGE, INTENT, plain_encoder
from proxy.records.mask import Mask
from proxy.records.record import RecordBuilder, lost_records
from proxy.records.rewritten import already_read
from proxy.records.segment import segment_path
from proxy.records.shipper import Shipper
from proxy.records.sinks.otlp_message import encoded
from proxy.records.sinks.otlp_target import Signal
from proxy.records.sinks.postgres import columns_of
from proxy.records.sinks.row import groups
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.stream import MARK, Stream
from proxy.records.unanswered import requests_of, route_of, unanswered_records, uncertain
from tests.records.support import CONTEXT, NOW, MemorySink, an_attempt, an_exchange
from tests.support.clock import ManualClock

DEEP = b"[" * 100_000
HOSTILE = (
    *(b"NaN", b"1e999", b"-1e999", b"1e308", b"-1", b"9" * 30, b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b'"x"', b'""'),
    *(b"null", b"true", b"[]", b"{}", b"[1]", b'{"x":[1]}', DEEP, b"[" * 3000 + b"]" * 3000),
)
BUILDER = RecordBuilder(CONTEXT, Mask(bytes(32)))


def honest_lines() -> list[bytes]:
    """Return lines of each kind that a worker writes."""
    unknown = an_exchange(
        retry="0123456789abcdef" * 2, sent=Sent.UNKNOWN, status=504, origin="proxy", code="upstream_timeout"
    )
    fine = an_exchange(retry="0123456789abcdef" * 2)
    lost = lost_records(CONTEXT, id=fine.id, now=NOW, count=7, cause="the disk was full")
    return [BUILDER.intent(fine, an_attempt()), BUILDER.exchange(unknown), BUILDER.exchange(fine), lost]


def hostile_lines() -> Iterator[bytes]:
    """Yield lines with one member that is missing or has a hostile value, and what is no record at all."""
    for honest in honest_lines():
        members = json.loads(honest)
        for name in members:
            if name not in ("kind", "id"):
                yield plain_encoder({key: value for key, value in members.items() if key != name}) + b"\n"
            for value in HOSTILE:
                changed = plain_encoder(members | {name: "HERE"}).replace(b'"HERE"', value)
                yield changed + b"\n"
    for start in (b"", EXCHANGE, INTENT, MARK, b'{"kind":"lifecycle","count":', b'{"kind":"rewritten","ranges":'):
        yield from (start + value + end for value in (b"", b"}", *HOSTILE) for end in (b"\n", b"}\n"))


async def found(_: object) -> Any:
    """Find nothing."""
    return Verdict.UNCLEAR


def readers() -> list[Callable[[bytes], object]]:
    """Return all that the keeper does with a line of a journal."""
    clock = ManualClock(NOW)
    recent = RecentExchanges(clock=clock)
    automatic = AutomaticInquiries(found, lambda _: True, find=found, clock=clock, write_line=lambda _: None)
    return [
        requests_of,
        route_of,
        uncertain,
        lambda line: unanswered_records([line, line], ended=NOW),
        lambda line: already_read(line, 3, {1: 100, 2: 100}),
        lambda line: groups([line]),
        lambda line: columns_of(groups([line])[0].rows[0]),
        *((lambda line, signal=signal: encoded(signal, [line])) for signal in Signal),
        lambda line: recent.add([line]),
        lambda _: (recent.errors(), recent.callers()),
        lambda line: automatic.add([line]),
    ]


@pytest.mark.parametrize("decoder", ["installed", "of the standard library"])
def test_no_line_makes_a_reader_raise(monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    """With each decoder: they differ in what they accept."""
    if decoder != "installed":
        monkeypatch.setattr(recent_exchanges, "decode", json.loads)
        monkeypatch.setattr(automatic_inquiries, "decode", json.loads)
    lines = list(hostile_lines())
    raised = set()
    for number, reader in enumerate(readers()):
        for line in lines:
            try:
                reader(line)
            except Exception as error:  # noqa: BLE001 - all of them are listed
                raised.add((number, type(error).__name__, line[:60]))
    assert len(lines) > 1000
    assert not raised


@pytest.mark.parametrize("text", [b"1e999", DEEP, b"NaN", b"9" * 5000])
def test_no_count_is_beyond_a_bound(text: bytes) -> None:
    """What a line can't stand for it stands not for."""
    assert requests_of(b'{"kind":"lifecycle","count":%b}' % text) == 0


def test_a_large_count_is_cut() -> None:
    """More than a worker can have begun."""
    assert requests_of(b'{"kind":"lifecycle","count":%b}' % (b"9" * 30)) == 10**12


@pytest.mark.parametrize("at", [b"1e999", b"-1e30", b"-" + b"9" * 30, b"NaN", b"0.5", b'"1"', DEEP])
def test_a_position_is_one_that_a_file_can_have(at: bytes) -> None:
    """It is used to read the file."""
    for header in (b"[[%b,%b]]" % (at, b"9" * 30), b"[[0,%b]]" % at):
        position = already_read(b'{"kind":"rewritten","segment":1,"ranges":%b}\n' % header, 3, {1: 100})
        assert type(position) is int
        assert 0 <= position <= 1 << 40


def living_journal(directory: Path, *lines: bytes, worker: str = "w1") -> Any:
    """Write a journal of a worker that lives as long as the returned file is open."""
    journals = directory / "journal"
    journals.mkdir(exist_ok=True)
    segment_path(journals, worker, 1).write_bytes(b"".join(lines))
    lock = (journals / f"{worker}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


async def test_the_keeper_goes_on_with_every_hostile_line(tmp_path: Path) -> None:
    """All are in the stream and in the database; then the worker ends, and its intents are completed."""
    lines = list(hostile_lines())
    events: list[Event] = []
    pinned: list[Any] = []
    sink = SqliteSink(tmp_path / "log.db")
    with living_journal(tmp_path, *lines):
        shipper = Shipper(tmp_path, sinks=[sink], clock=SystemClock(), observe=events.append, uncertain=pinned.extend)
        shipper.count("w1")
        await shipper.begin()
        assert shipper.backlog_records >= sum(not line.startswith(INTENT) for line in lines)
    assert await shipper.worker_ended("w1")
    assert 0 < shipper.counted("w1") < math.inf
    records, _ = Stream.read(shipper._stream, min(shipper._outlets[0].position, shipper._stream.end))
    await sink.write(records)
    await shipper.close(seconds=0)
    assert pinned
    assert not [one for one in events if isinstance(one, RecordsNotEvaluated | SinkFailed)]


async def test_a_forged_mark_is_a_record(tmp_path: Path) -> None:
    """Not the end of the stream, and no record is left out of the numbers that the sinks get."""
    sink = MemorySink()
    forged = MARK + b',"sequence":9,"journals":{},"open":{}}\n'
    with living_journal(tmp_path, forged, honest_lines()[1]):
        shipper = Shipper(tmp_path, sinks=[sink], clock=SystemClock(), observe=lambda _: None)
        await shipper.begin()
        assert shipper._stream.open().journals == {"w1-1.jsonl": len(forged) + len(honest_lines()[1])}
        records, position = shipper._stream.read(min(shipper._outlets[0].position, shipper._stream.end))
        assert len(records) == position.sequence == 2
        await shipper.close(seconds=0)


async def test_a_defect_behind_the_log_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    """Records go on to the sinks; what one line costs is not the pins of the others."""
    events: list[Event] = []
    pinned: list[Any] = []
    sink = MemorySink()
    lines = [BUILDER.exchange(an_exchange(retry=key * 32, status=502)) for key in "abc"]

    def pin(found: list[Any]) -> None:
        if any(one["retry"].startswith("b") for one in found):
            raise KeyError("b")
        pinned.extend(one["retry"][0] for one in found)

    def evaluate(_: list[bytes]) -> None:
        raise ZeroDivisionError

    with living_journal(tmp_path, *lines):
        shipper = Shipper(
            tmp_path, sinks=[sink], clock=SystemClock(), observe=events.append, uncertain=pin, recorded=evaluate
        )
        await shipper.begin()
        with living_journal(tmp_path, lines[0], worker="w2"):
            await shipper.worker_ended("nobody")
        assert shipper._stream.end.sequence == 4
        await shipper.close(seconds=0)

    assert pinned == ["a", "c", "a"]
    assert events == [RecordsNotEvaluated(cause="a defect of the proxy: ZeroDivisionError")]
