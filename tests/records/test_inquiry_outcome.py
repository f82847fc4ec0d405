import json
from typing import Any

import pytest

from proxy.clock import timestamp
from proxy.errors import Sent
from proxy.records.inquiry_outcome import SETTLED_AFTER, decisive, ended_at
from proxy.records.mask import Mask
from proxy.records.record import RecordBuilder
from proxy.records.unanswered import unanswered_exchange
from tests.records.kept import inquiry, record
from tests.records.support import CONTEXT, NOW, an_attempt, an_exchange

DAY = 86400


def killed(*, ended: float) -> dict[str, Any]:
    """Return the record of a request that was sent at NOW, and whose worker was gone at *ended*."""
    intent = RecordBuilder(CONTEXT, Mask(bytes(32))).intent(an_exchange(), an_attempt(started_wall=NOW))
    return dict(json.loads(unanswered_exchange([json.loads(intent)], ended=ended)))


def settled(exchange: dict[str, Any], at: float, verdict: str = "not_found") -> bool:
    """Return whether an inquiry *at* epoch seconds, with this *verdict*, settles *exchange*."""
    return decisive(exchange, [json.loads(inquiry(exchange["id"], at, verdict=verdict))]) is not None


@pytest.mark.parametrize(
    ("after", "settles"), [(0.1, False), (SETTLED_AFTER - 0.1, False), (SETTLED_AFTER + 0.1, True)]
)
def test_not_found_counts_from_the_end(after: float, *, settles: bool) -> None:
    """The record of a request that took 100 s says when that was."""
    exchange = json.loads(record(NOW, sent=Sent.UNKNOWN, finished=200.0))

    assert settled(exchange, NOW + 100 + after) == settles


@pytest.mark.parametrize(("after", "settles"), [(5, False), (SETTLED_AFTER - 0.1, False), (SETTLED_AFTER + 0.1, True)])
def test_of_a_killed_worker_it_counts_from_when_that_was_known(after: float, *, settles: bool) -> None:
    """It may have uploaded for 100 s: nobody knows how far it was, only that it was over when its worker was gone."""
    assert settled(killed(ended=NOW + 100), NOW + 100 + after) == settles


@pytest.mark.parametrize(("after", "settles"), [(3600, False), (DAY, False), (DAY + SETTLED_AFTER + 1, True)])
def test_a_record_that_does_not_say_when_its_worker_was_gone(after: float, *, settles: bool) -> None:
    """As an earlier payproxy wrote it: only after the longest `exchange_timeout` is it over for sure."""
    exchange = killed(ended=NOW)
    del exchange["ended"]

    assert settled(exchange, NOW + after) == settles


def test_found_counts_at_any_time() -> None:
    """Once the bank has it, it has it."""
    assert settled(killed(ended=NOW + 100), NOW + 101, "found")


def test_a_clock_that_was_set_back_makes_no_early_end() -> None:
    """The last send is not before the end, whatever the keeper's clock said."""
    assert timestamp(ended_at(killed(ended=NOW - 3600)).timestamp()) == timestamp(NOW)
