import json
from pathlib import Path

import pytest

from proxy.records.journal_tail import JournalTail
from proxy.records.mask import Mask
from proxy.records.record import RecordBuilder
from proxy.records.segment import segment_path
from proxy.request_summary import RequestSummary
from tests.records.support import CONTEXT, NOW, an_attempt, an_exchange, open_journal

BUILDER = RecordBuilder(CONTEXT, Mask(bytes(32)))


def intent(exchange: RequestSummary, number: int = 1) -> bytes:
    """Return the line of an intent."""
    return BUILDER.intent(exchange, an_attempt(number=number))


def tail_of(directory: Path, positions: dict[str, int] | None = None, carried: list[str] | None = None) -> JournalTail:
    """Return a tail of worker w1."""
    return JournalTail(directory, "w1", positions=positions or {}, carried=carried or [])


def write(directory: Path, number: int, data: bytes) -> None:
    """Append *data* to a segment of w1."""
    with segment_path(directory, "w1", number).open("ab") as file:
        file.write(data)


def ids(records: list[bytes]) -> list[str]:
    """Return the ids of *records*."""
    return [json.loads(record)["id"] for record in records]


def test_records_come_once_and_in_order(tmp_path: Path) -> None:
    """Over segments, as the file grows."""
    exchanges = [an_exchange() for _ in range(4)]
    tail = tail_of(tmp_path)
    write(tmp_path, 1, intent(exchanges[0]) + BUILDER.exchange(exchanges[0]) + BUILDER.exchange(exchanges[1]))
    first, _ = tail.read([1])
    write(tmp_path, 1, BUILDER.exchange(exchanges[2]))
    write(tmp_path, 2, BUILDER.exchange(exchanges[3]))
    second, _ = tail.read([1, 2])

    assert ids(first + second) == [exchange.id for exchange in exchanges]
    assert len(tail._open) == 0


def test_only_records_with_a_retry_are_parsed(tmp_path: Path) -> None:
    """A line's end tells, also where a header is called so: to parse each would take the keeper a fifth more."""
    retried = BUILDER.exchange(an_exchange(retry="0011223344556677", status=500))
    plain = BUILDER.exchange(an_exchange(index=(("a", "b"), ("retry", "x"))))
    no_json = plain.replace(b'"attempts":[', b'"attempts":[!')
    write(tmp_path, 1, no_json + retried + no_json)
    tail = tail_of(tmp_path)

    assert tail.read([1]) == ([no_json, retried, no_json], True)
    assert [found["retry"] for found in tail.take_uncertain()] == ["0011223344556677"]


@pytest.mark.parametrize("rest", [b"", b"\0" * 5000])
def test_a_torn_last_line_is_no_record(tmp_path: Path, rest: bytes) -> None:
    """Neither at the end of the file nor before the reserve; it is read once it is whole."""
    exchange = an_exchange()
    line = BUILDER.exchange(exchange)
    tail = tail_of(tmp_path)
    write(tmp_path, 1, line + line[:50] + rest)
    assert len(tail.read([1])[0]) == 1

    segment_path(tmp_path, "w1", 1).write_bytes(line + line)

    assert len(tail.read([1])[0]) == 1


def test_an_open_intent_becomes_unknown(tmp_path: Path) -> None:
    """Only what has no record, with both of its attempts."""
    done, flying = an_exchange(), an_exchange()
    write(tmp_path, 1, intent(done) + intent(flying) + BUILDER.exchange(done) + intent(flying, 2))
    tail = tail_of(tmp_path)
    tail.read([1])

    (record,) = [json.loads(line) for line in tail.unanswered(ended=NOW)]

    assert record["id"] == flying.id
    assert record["sent_upstream"] == "unknown"
    assert len(record["attempts"]) == 2
    assert tail.unanswered(ended=NOW) == []


def test_open_intents_are_remembered_by_reading_again(tmp_path: Path) -> None:
    """A new keeper knows from the stream how far the last one was, and finds what was open there."""
    done, flying = an_exchange(), an_exchange()
    write(tmp_path, 1, intent(flying) + intent(done) + BUILDER.exchange(done))
    before = tail_of(tmp_path)
    before.read([1])

    after = tail_of(tmp_path, positions=before.positions)
    assert after.read([1])[0] == []
    assert ids(after.unanswered(ended=NOW)) == [flying.id]


def test_an_intent_that_is_carried_and_read_again_is_one(tmp_path: Path) -> None:
    """A keeper that died between its mark and the removal of a segment must not make a second send of it."""
    flying = an_exchange()
    write(tmp_path, 1, b"")
    write(tmp_path, 2, intent(flying))
    before = tail_of(tmp_path)
    before.read([1, 2])
    assert before.mark_removable()

    after = tail_of(tmp_path, positions=before.positions, carried=before.carried)
    after.read([1, 2])

    [record] = [json.loads(record) for record in after.unanswered(ended=NOW)]
    assert (record["id"], record["replayed"], len(record["attempts"])) == (flying.id, False, 1)


def test_how_far_a_segment_was_read_is_forgotten_with_it(tmp_path: Path) -> None:
    """A worker takes away what it could not write; the mark in the stream does not grow by that."""
    write(tmp_path, 1, BUILDER.exchange(an_exchange()))
    tail = tail_of(tmp_path)
    tail.read([1])
    write(tmp_path, 2, BUILDER.exchange(an_exchange()))

    tail.read([2])

    assert list(tail.positions) == ["w1-2.jsonl"]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"attempt":1', b'"attempt":\x01'), (b'"caller":"erp"', b'"caller":"e\xffp"'), (b'"started"', b'"started')],
)
def test_an_intent_that_a_disk_has_changed_is_passed_on_as_it_is(tmp_path: Path, old: bytes, new: bytes) -> None:
    """It is no reason to stop, and what it tells of was sent."""
    flying = an_exchange(retry="0011223344556677")
    broken = intent(flying).replace(old, new)
    assert broken != intent(flying)
    write(tmp_path, 1, broken)
    write(tmp_path, 2, b"")
    tail = tail_of(tmp_path)
    tail.read([1, 2])
    assert tail.mark_removable()

    assert flying.id in tail.carried[0]
    assert tail.unanswered(ended=NOW) == [broken[:-1]]


def test_an_intent_outlives_its_segment(tmp_path: Path) -> None:
    """One slow payment holds back no file: its intent is carried on until it ends."""
    slow = an_exchange()
    write(tmp_path, 1, intent(slow))
    write(tmp_path, 2, b"")
    tail = tail_of(tmp_path)
    tail.read([1, 2])
    assert tail.mark_removable()
    carried = tail.carried
    assert not tail.remove()
    assert not segment_path(tmp_path, "w1", 1).exists()

    after = tail_of(tmp_path, positions=tail.positions, carried=carried)
    assert len(after._open) == 1
    write(tmp_path, 2, BUILDER.exchange(slow))

    assert ids(after.read([2])[0]) == [slow.id]
    assert after.carried == []
    assert len(after._open) == 0


def test_the_segment_in_use_stays(tmp_path: Path) -> None:
    """Until the worker has ended."""
    write(tmp_path, 1, BUILDER.exchange(an_exchange()))
    (tmp_path / "w1.lock").touch()
    tail = tail_of(tmp_path)
    tail.read([1])
    assert not tail.mark_removable()

    tail.ended = True
    tail.read([1])

    assert tail.mark_removable()
    assert tail.remove()
    assert not list(tmp_path.iterdir())


def test_much_comes_in_parts(tmp_path: Path) -> None:
    """A backlog doesn't fill the keeper's memory."""
    line = BUILDER.exchange(an_exchange(path="/" + "x" * 2000))
    write(tmp_path, 1, line * 4000)
    tail = tail_of(tmp_path)

    records, complete = tail.read([1])
    assert not complete
    assert len(records) < 3000
    while not complete:
        more, complete = tail.read([1])
        records += more
    assert len(records) == 4000


async def test_a_living_worker_is_known_by_its_lock(tmp_path: Path) -> None:
    """The kernel gives the lock back when the process dies, however it dies."""
    tail = tail_of(tmp_path / "journal")
    async with open_journal(tmp_path):
        assert tail.worker_runs()

    assert not tail.worker_runs()
