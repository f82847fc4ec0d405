from typing import Any

import pytest

from proxy.errors import Sent
from proxy.keeper import recent_exchanges
from proxy.keeper.recent_exchanges import RecentExchanges
from proxy.telemetry.status import RECENT_SECONDS
from tests.records.kept import operation, record
from tests.records.support import NOW, an_attempt
from tests.support.clock import ManualClock

FAILED: dict[str, Any] = {"status": 504, "origin": "proxy", "code": "upstream_timeout", "sent": Sent.UNKNOWN}


def recent(*records: bytes, at: float = NOW) -> RecentExchanges:
    """Return what was counted of *records*, asked *at* epoch seconds."""
    found = RecentExchanges(clock=ManualClock(at))
    found.add(records)
    return found


def test_requests_are_counted_by_caller() -> None:
    """Each with how many succeeded, failed, were refused by the proxy, or may be at the bank."""
    found = recent(
        record(caller="erp"),
        record(caller="erp", status=404),
        record(caller="erp", **FAILED),
        record(caller="batch", status=429, origin="proxy", code="rate_limited", sent=Sent.NO),
        operation(),
    )

    erp, batch = found.callers()

    assert (erp.name, erp.requests, erp.fine, erp.client_errors, erp.failed, erp.sent_unknown) == ("erp", 3, 1, 1, 1, 1)
    assert (batch.name, batch.requests, batch.held_back, batch.failed) == ("batch", 1, 1, 0)
    assert erp.last == pytest.approx(NOW, abs=0.001)


def test_an_error_is_one_row_with_its_last_request() -> None:
    """However often it happened; the latest kind is the first."""
    found = recent(
        record(at=NOW - 9, caller="erp", **FAILED, cause="first"),
        record(at=NOW - 8, caller="batch", **FAILED, cause="second"),
        record(at=NOW - 1, status=503, attempts=[an_attempt(status=503)]),
    )

    bank, timeout = found.errors()

    assert (bank.code, bank.status, bank.count) == ("", 503, 1)
    assert bank.meaning == "The bank answered 503."
    assert (timeout.code, timeout.count, timeout.caller, timeout.cause) == ("upstream_timeout", 2, "batch", "second")
    assert timeout.sent_upstream == "unknown"
    assert timeout.next_step.startswith("Ask the bank")


def test_what_went_well_is_no_error() -> None:
    """Nor is the bank's no to a caller's request."""
    assert recent(record(), record(status=404)).errors() == ()


@pytest.mark.parametrize("second", range(0, 300, 59))
async def test_after_an_hour_it_is_forgotten(second: int) -> None:
    """To the minute, whenever it was; a caller that is silent takes no memory and no line."""
    clock = ManualClock(NOW + second)
    found = RecentExchanges(clock=clock)
    found.add([record(at=NOW + second, caller="erp", **FAILED)])

    await clock.advance(RECENT_SECONDS - 60)
    assert (len(found.callers()), len(found.errors())) == (1, 1)
    await clock.advance(60)
    assert (found.callers(), found.errors()) == ((), ())
    assert not found._callers


async def test_what_is_an_hour_old_is_forgotten_alone() -> None:
    """Minute by minute, also over a pause, and with a record that comes late."""
    clock = ManualClock(NOW)
    found = RecentExchanges(clock=clock)
    seen = []
    for pause in (0, 20, 20, 19, 1, 20, 59, 600):
        await clock.advance(pause * 60)
        for ago in (0, 1200):
            found.add([record(at=clock.now() - ago, caller="erp")])
        seen.append(found.callers()[0].requests)

    assert seen == [2, 4, 5, 7, 7, 7, 3, 2]


@pytest.mark.parametrize(("back", "requests"), [(600, 2), (7200, 1)])
async def test_a_clock_that_was_set_back_does_not_stop_it(back: int, requests: int) -> None:
    """By an hour or more, the counts begin anew."""
    clock = ManualClock(NOW)
    found = RecentExchanges(clock=clock)
    found.add([record(at=NOW, caller="erp")])
    clock.set_wall(NOW - back)
    found.add([record(at=NOW - back, caller="erp")])

    assert [one.requests for one in found.callers()] == [requests]


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the caller that was silent longest goes."""
    monkeypatch.setattr(recent_exchanges, "MOST_KEPT", 3)

    found = recent(*(record(at=NOW + number, caller=f"c{number}") for number in range(5)))

    assert sorted(one.name for one in found.callers()) == ["c2", "c3", "c4"]


async def test_its_memory_is_bounded_if_nobody_asks() -> None:
    """An instance without metrics and probes runs for months."""
    clock = ManualClock(NOW)
    found = RecentExchanges(clock=clock)
    for _ in range(48):
        found.add([record(at=clock.now(), caller="erp", **FAILED)])
        await clock.advance(3600)

    kept = [*found._callers.values(), *found._errors.values()]
    assert len(kept) == 2
    assert all(sum(one.ring) == sum(one.sums) == 2 for one in kept)


def test_a_foreign_line_is_passed_over() -> None:
    """A record that another version wrote must not stop the log."""
    good = record(caller="erp")

    found = recent(
        b"", b"{", good.replace(b',"caller":', b',"called":'), good.replace(b'"status":200', b'"status":x'), good
    )

    assert [(one.name, one.requests) for one in found.callers()] == [("erp", 1)]


def test_a_value_that_looks_like_a_member_is_a_value() -> None:
    """Quotes are escaped in values, so none is taken for a name."""
    (caller,) = recent(record(caller="erp", cause='],"status":500,"replayed":', path='/x","caller":"mallory')).callers()

    assert (caller.name, caller.fine) == ("erp", 1)
