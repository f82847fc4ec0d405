import json

import pytest

from proxy.clock import timestamp
from proxy.events import OutcomeUnknown, SinkFailed
from proxy.keeper.recent_exchanges import RecentExchanges
from proxy.link.counts import Counts, OverheadCount, RequestCount
from proxy.records.record import RecordBuilder
from proxy.records.unanswered import unanswered_exchange
from proxy.telemetry.counters import DURATION_BOUNDS, OVERHEAD_BOUNDS
from proxy.telemetry.history import RINGS, History, quantile
from proxy.telemetry.metrics import CountsUnusable, Metrics
from tests.records.kept import MASK, record
from tests.records.support import CONTEXT, an_attempt, an_exchange
from tests.support.clock import ManualClock
from tests.telemetry.support import samples, status


def counts(status_code: int = 200, number: float = 1.0, *, bucket: int = 3, code: str = "") -> Counts:
    """Return *number* requests whose duration is in *bucket*, answered by the proxy if there is a *code*."""
    row, own = [0.0] * (len(DURATION_BOUNDS) + 2), [0.0] * (len(OVERHEAD_BOUNDS) + 2)
    row[bucket] = own[bucket] = number
    request = RequestCount(method="GET", route="r", status=status_code, sent="yes", code=code, row=row)
    return Counts(requests=(request,), overhead=(OverheadCount(route="r", row=own),))


async def test_each_ring_has_what_was_counted_in_its_time() -> None:
    """By result; a slot of the shortest ring is forgotten when its turn comes again."""
    clock = ManualClock()
    history = History(clock=clock)
    for code in (200, 304, 404, 500, 502, 0, 999):
        history.add(counts(code))
    await clock.advance(700.0)
    history.add(counts())

    sums = [
        [sum(one.results) for one in history.samples(ring, number=number, together=1)]
        for ring, number in ((0, 600), (1, 720), (2, 2016))
    ]
    assert [sum(one) for one in sums] == [1, 8, 8]
    found = history.samples(2, number=4, together=1)
    assert [sum(one.results[place] for one in found) for place in range(5)] == [2, 0, 3, 1, 2]
    assert [sum(column) for column in zip(*(one.durations for one in found), strict=True)][3] == 8
    assert sum(sum(one.overheads) for one in found) == 8


@pytest.mark.parametrize("status_code", [0, 200, 304, 400, 401, 403, 429, 500, 502, 503])
@pytest.mark.parametrize("code", ["", "upstream_timeout", "token_refused", "overloaded", "no_route"])
def test_a_request_is_of_the_same_class_as_in_the_numbers_of_callers(status_code: int, code: str) -> None:
    """A page shows both: "failed" and "client errors" mean the same in each."""
    clock = ManualClock()
    history, recent = History(clock=clock), RecentExchanges(clock=clock)
    history.add(counts(status_code, code=code))
    recent.add([record(at=clock.now(), status=status_code, code=code, origin="proxy" if code else "bank")])

    [caller] = recent.callers()
    shown = (caller.other, caller.held_back, caller.failed, caller.client_errors, caller.fine)
    assert history.samples(1, number=1, together=1)[0].results == shown


def test_what_a_killed_worker_had_in_flight_is_in_the_class_of_its_record() -> None:
    """Whose line says status 0, without a code; it has no duration, and other events of the keeper are no requests."""
    clock = ManualClock()
    history, recent = History(clock=clock), RecentExchanges(clock=clock)
    intent = json.loads(RecordBuilder(CONTEXT, MASK).intent(an_exchange(), an_attempt()))
    lost = unanswered_exchange([intent | {"time": timestamp(clock.now())}], ended=clock.now())
    for _ in range(4):
        history.observe(OutcomeUnknown(route="r"))
    history.observe(SinkFailed(sink="database", cause="away"))
    recent.add([lost] * 4)

    [sample] = history.samples(0, number=1, together=1)
    [caller] = recent.callers()
    assert (caller.requests, caller.other) == (4, 4)
    assert sample.results == (caller.other, 0, 0, 0, 0)
    assert not any(sample.durations + sample.overheads)


async def test_samples_are_put_together() -> None:
    """The last one is that of now, and nothing is counted twice."""
    clock = ManualClock()
    history = History(clock=clock)
    for _ in range(50):
        history.add(counts())
        await clock.advance(1.0)

    found = history.samples(0, number=6, together=10)
    assert sum(sum(one.results) for one in found) == 50
    assert [one.seconds for one in found[:-1]] == [10] * 5
    assert found[-1].seconds == max(1.0, clock.now() - found[-1].start)
    assert found[-1].start <= clock.now() < found[-1].start + 10


def test_it_agrees_with_the_metrics() -> None:
    """Both are told by the same report, and neither counts one that is malformed."""
    clock = ManualClock()
    history = History(clock=clock)
    metrics = Metrics(status=status, counted=history.add)
    metrics.add(counts(number=5))
    with pytest.raises(CountsUnusable):
        metrics.add(Counts(requests=(counts().requests[0]._replace(row=[1.0]),)))

    shown = samples(metrics)
    total = sum(value for (name, _), value in shown.items() if name == "http_server_request_duration_seconds_count")
    assert total == sum(sum(one.results) for one in history.samples(1, number=2, together=1)) == 5


async def test_it_is_the_same_after_a_restart() -> None:
    """And what was not counted meanwhile is empty."""
    clock = ManualClock()
    history, again = History(clock=clock), History(clock=clock)
    history.add(counts(number=3))
    data = history.dump()

    assert again.load(data)
    assert again.samples(2, number=9, together=1) == history.samples(2, number=9, together=1)
    await clock.advance(RINGS[2][0] * RINGS[2][1])
    assert not any(sum(one.results) for one in again.samples(2, number=2016, together=1))


@pytest.mark.parametrize("damaged", [b"", b"x", b"payproxy history 1 33\n", None])
def test_a_damaged_file_begins_anew(damaged: bytes | None) -> None:
    """Every changed byte is noticed."""
    history = History(clock=ManualClock())
    history.add(counts())
    data = bytearray(history.dump())
    data[len(data) // 2] ^= 1

    assert not History(clock=ManualClock()).load(bytes(data) if damaged is None else damaged)


def test_it_has_a_fixed_size() -> None:
    """Below the 8 MB that it may have."""
    history = History(clock=ManualClock())
    before = len(history.dump())
    history.add(counts(number=1e12))

    assert len(history.dump()) == before < 1_000_000


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [0, 0, 0], 0.0),
        (0.5, [10, 0, 0], 0.5),
        (0.5, [5, 5, 0], 1.0),
        (0.75, [5, 5, 0], 1.5),
        (0.95, [0, 0, 9], 2.0),
    ],
)
def test_quantiles_are_those_of_prometheus(share: float, buckets: list[int], expected: float) -> None:
    """Linear within a bucket; above the last bound it is that bound."""
    assert quantile(share, buckets, (1.0, 2.0)) == pytest.approx(expected)
