import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, Sent
from proxy.forwarding.exchange import Exchange as ForwardedExchange
from proxy.link.codec import decode, encode
from proxy.link.counts import Counts
from proxy.link.messages import WorkerReport
from proxy.request_summary import RequestSummary
from proxy.telemetry.counters import DURATION_BOUNDS, OVERHEAD_BOUNDS, Counters, replay_outcome
from tests.telemetry.support import an_attempt, an_exchange

WIDTH = len(DURATION_BOUNDS) + 2


def counters() -> Counters:
    """Return counters of a worker with one upstream."""
    return Counters(server_addresses={"bank": "api.payments.jpmorgan.com"})


def labels(counts: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return the labels of *counts*."""
    return [[*entry[:-1]] for entry in counts]


def test_an_exchange_is_counted_under_its_labels() -> None:
    """Method, route, status, sent and code name the row of an exchange; its time stands in one bucket and the sum."""
    counted = counters()
    counted.finished(an_exchange())

    delta = counted.delta()

    (entry,) = delta.requests
    assert entry[:-1] == ("GET", "payments", 200, "yes", "")
    row = entry[-1]
    assert len(row) == WIDTH
    assert row[2] == 0
    assert row[3] == 1
    assert sum(row[:-1]) == 1
    assert math.isclose(row[-1], 0.03)


def test_a_bound_belongs_to_its_bucket() -> None:
    """A value that equals a bound falls into the bucket of that bound: le means less or equal."""
    counted = counters()
    counted.finished(an_exchange(started=0.0, finished=DURATION_BOUNDS[0], waited=0.0))

    assert counted.delta().requests[0][-1][0] == 1


def test_a_value_above_all_bounds_is_counted() -> None:
    """What took longer than the last bound stands in the bucket without one."""
    counted = counters()
    counted.finished(an_exchange(started=0.0, finished=1000.0))

    assert counted.delta().requests[0][-1][len(DURATION_BOUNDS)] == 1


def test_overhead_is_what_nobody_was_waited_for() -> None:
    """The proxy's own time is the whole minus the time spent waiting for caller and bank."""
    counted = counters()
    counted.finished(an_exchange())

    ((route, row),) = counted.delta().overhead
    assert route == "payments"
    assert math.isclose(row[-1], 0.001, rel_tol=1e-6)
    assert len(row) == len(OVERHEAD_BOUNDS) + 2


def test_overhead_is_never_negative() -> None:
    """Rounding of the waits can't make a sum go down."""
    counted = counters()
    counted.finished(an_exchange(started=0.0, finished=1.0, waited=1.1))

    row = counted.delta().overhead[0][-1]
    assert row[0] == 1
    assert row[-1] == 0


def test_each_attempt_is_counted_at_its_server() -> None:
    """Both sends of a healed request are calls of the bank, by its host and status."""
    counted = counters()
    counted.finished(an_exchange(attempts=[an_attempt(status=401), an_attempt(status=200)], replayed=True))

    assert labels(counted.delta().sends) == [
        ["api.payments.jpmorgan.com", 401],
        ["api.payments.jpmorgan.com", 200],
    ]


def test_a_second_send_that_fell_back_is_counted_where_it_went() -> None:
    """The refused token was modern's, and the first call too; the second was legacy's."""
    counted = Counters(server_addresses={"old": "old.jpmorgan.com", "new": "new.jpmorgan.com"})
    attempts = [
        an_attempt(status=401, upstream="new", credential="login"),
        an_attempt(upstream="old", credential="adfs"),
    ]
    counted.finished(an_exchange(upstream="old", credential="adfs", replayed=True, note="fell_back", attempts=attempts))

    delta = counted.delta()
    assert labels(delta.sends) == [["new.jpmorgan.com", 401], ["old.jpmorgan.com", 200]]
    assert labels(delta.replays) == [["login", "succeeded"]]


def test_an_attempt_without_an_answer_is_counted_if_it_was_sent() -> None:
    """A time-out waited for the bank; a refused connection did not."""
    counted = counters()
    counted.finished(an_exchange(attempts=[an_attempt(status=0, sent=Sent.UNKNOWN)]))
    counted.finished(an_exchange(attempts=[an_attempt(status=0, sent=Sent.NO)]))

    delta = counted.delta()
    assert labels(delta.sends) == [["api.payments.jpmorgan.com", 0]]
    assert sum(delta.sends[0][-1][:-1]) == 1


def test_an_invented_method_has_no_label_of_its_own() -> None:
    """Callers can't fill the memory with methods they make up."""
    counted = counters()
    for number in range(100):
        counted.finished(an_exchange(method=f"PAY{number}", route=""))

    assert labels(counted.delta().requests) == [["_OTHER", "", 200, "yes", ""]]


@pytest.mark.parametrize("sent", list(Sent))
def test_sent_upstream_is_a_plain_word(sent: Sent) -> None:
    """The three answers to "was it sent?" arrive as their words."""
    counted = counters()
    counted.finished(an_exchange(sent=sent))

    assert counted.delta().requests[0][3] == sent.value


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (an_exchange(), ""),
        (an_exchange(replayed=True), "succeeded"),
        (an_exchange(replayed=True, note="fresh_token_refused", status=401), "refused"),
        (an_exchange(replayed=True, note="fell_back"), "succeeded"),
        (an_exchange(replayed=True, note="legacy_token_refused", status=401), "refused"),
        (an_exchange(note="modern_token_missing"), ""),
        (an_exchange(note="facade_token", origin="proxy", attempts=[]), ""),
        (an_exchange(replayed=True, origin="proxy", status=502), "failed"),
        (an_exchange(note="body_not_held", status=401), "body_not_held"),
        (an_exchange(note="no_newer_token", status=401), "no_newer_token"),
        (an_exchange(note="log_unavailable", status=401), "prevented"),
    ],
)
def test_outcomes_of_replays(exchange: RequestSummary, outcome: str) -> None:
    """A second send succeeded, was refused, or failed; else the reason says why there was none."""
    counted = counters()
    counted.finished(exchange)

    assert replay_outcome(exchange) == outcome
    assert labels(counted.delta().replays) == ([["login", outcome]] if outcome else [])


def test_a_delta_begins_anew() -> None:
    """What was handed over is not handed over again, and without anything new there are no sums."""
    counted = counters()
    counted.finished(an_exchange())
    assert counted.delta().requests

    assert counted.delta() == Counts()


@given(
    st.lists(
        st.builds(
            an_exchange,
            finished=st.floats(100, 1000),
            waited=st.floats(0, 1000),
            status=st.sampled_from([0, 200, 401, 503]),
            code=st.sampled_from(["", "token_unavailable"]),
            sent=st.sampled_from(Sent),
            replayed=st.booleans(),
        )
    )
)
def test_every_exchange_is_in_the_delta_that_the_keeper_gets(exchanges: list[RequestSummary]) -> None:
    """However exchanges mix, the counts add up to their number, and the keeper can read what the worker wrote."""
    counted = counters()
    for exchange in exchanges:
        counted.finished(exchange)

    sent = WorkerReport(counted.delta())
    report = decode(encode(sent))

    assert report == sent
    assert isinstance(report, WorkerReport)
    assert sum(sum(one.row[:-1]) for one in report.counts.requests) == len(exchanges)
    assert sum(sum(one.row[:-1]) for one in report.counts.overhead) == len(exchanges)
    assert {len(one.row) for one in report.counts.requests} <= {WIDTH}
    assert {len(one.row) for one in report.counts.overhead} <= {len(OVERHEAD_BOUNDS) + 2}


def test_the_worker_pays_for_no_library() -> None:
    """The worker's half imports neither prometheus_client nor anything that holds a key or a configuration."""
    code = "import sys, proxy.telemetry.counters; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    heavy = {"prometheus_client", "aiohttp", "pydantic", "jwt", "cryptography"}
    assert heavy.isdisjoint(loaded)


def test_the_data_paths_exchange_can_be_counted() -> None:
    """What the data path leaves has all that is counted, also when it ended before there was a plan."""
    counted = counters()
    exchange = ForwardedExchange("id", started=1.0, started_wall=2.0, client_address="127.0.0.1", method="GET")
    exchange.failed(BadRequest("no", status=400))
    exchange.finished = 1.5
    counted.finished(exchange)

    assert labels(counted.delta().requests) == [["GET", "", 400, "no", "bad_request"]]
