import os
import platform
import signal
import subprocess
import sys
from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics import parser as openmetrics

from proxy import errors
from proxy.errors import Sent
from proxy.events import ClockSkewMeasured, MintFailed, OutcomeUnknown, RecordsLost, TokenMinted
from proxy.link.codec import decode, encode
from proxy.link.counts import Counts, OverheadCount, ReplayCount, RequestCount, SendCount
from proxy.link.messages import WorkerReport
from proxy.request_summary import RequestSummary
from proxy.telemetry.counters import REPLAY_OUTCOMES, Counters, replay_outcome
from proxy.telemetry.metrics import MAX_ROWS, OPENMETRICS, TEXT, CountsUnusable, Metrics
from proxy.telemetry.status import CertificateStatus, MigrationStatus, Status, WorkerState
from tests.export.support import promtool
from tests.telemetry.support import an_attempt, an_exchange, no_token, samples, sink, status, token, worker

MINTED = TokenMinted(
    credential="login",
    audience="jpm:uri:prod:payments",
    mint=1,
    fingerprint="0123456789abcdef",
    seconds=0.1,
    lifetime=300.0,
    expires=1_800_000_300.0,
)
FAILED = MintFailed(
    credential="login", audience="", code="token_refused", error="invalid_client", cause="", retry_in=30.0
)


def metrics(given: Status | None = None) -> Metrics:
    """Return metrics of a keeper whose status is *given*."""
    known = given or status(workers=())
    return Metrics(status=lambda: known)


def delta(*exchanges: RequestSummary) -> Counts:
    """Return what a worker would send after *exchanges*, as the link delivers it."""
    counters = Counters(server_addresses={"bank": "api.payments.jpmorgan.com"})
    for exchange in exchanges:
        counters.finished(exchange)
    report = decode(encode(WorkerReport(counters.delta())))
    assert isinstance(report, WorkerReport)
    return report.counts


def test_histograms_of_requests_parse_back() -> None:
    """Requests and sends stand in cumulative buckets with count and sum, under OpenTelemetry's names."""
    counted = metrics()
    counted.add(delta(an_exchange(), an_exchange(finished=100.3)))

    found = samples(counted)
    labels = (("http_request_method", "GET"), ("http_response_status_code", "200"), ("http_route", "payments"))
    name = "http_server_request_duration_seconds"
    assert found[f"{name}_count", labels] == 2
    assert found[f"{name}_sum", labels] == pytest.approx(0.33)
    assert found[f"{name}_bucket", (*labels, ("le", "0.025"))] == 0
    assert found[f"{name}_bucket", (*labels, ("le", "0.05"))] == 1
    assert found[f"{name}_bucket", (*labels, ("le", "+Inf"))] == 2
    client = (("http_response_status_code", "200"), ("server_address", "api.payments.jpmorgan.com"))
    assert found["http_client_request_duration_seconds_count", client] == 2
    assert found["payproxy_overhead_seconds_count", (("http_route", "payments"),)] == 2


def test_exchanges_errors_and_replays_are_counted() -> None:
    """One row of a worker feeds exchanges by sent_upstream, errors by code and replays by outcome."""
    counted = metrics()
    counted.add(
        delta(
            an_exchange(),
            an_exchange(status=504, code="upstream_timeout", origin="proxy", sent=Sent.UNKNOWN),
            an_exchange(replayed=True, attempts=[an_attempt(status=401), an_attempt()]),
        )
    )

    found = samples(counted)
    assert found["payproxy_exchanges_total", (("http_route", "payments"), ("sent_upstream", "yes"))] == 2
    assert found["payproxy_exchanges_total", (("http_route", "payments"), ("sent_upstream", "unknown"))] == 1
    assert found["payproxy_errors_total", (("code", "upstream_timeout"),)] == 1
    assert found["payproxy_replays_total", (("credential", "login"), ("outcome", "succeeded"))] == 1


def test_a_caller_without_an_answer_has_an_empty_status() -> None:
    """No status is no number: a caller who left before the answer is not a status 0."""
    counted = metrics()
    counted.add(delta(an_exchange(status=0, attempts=[])))

    labels = (("http_request_method", "GET"), ("http_response_status_code", ""), ("http_route", "payments"))
    assert samples(counted)["http_server_request_duration_seconds_count", labels] == 1


def test_workers_are_merged_and_a_dead_one_stays_counted() -> None:
    """Counters of all workers, also of those that ended, are one sum that never goes down."""
    given = [status(workers_wanted=2, workers=())]
    counted = Metrics(status=lambda: given[0])
    counted.add(delta(an_exchange()))
    counted.add(delta(an_exchange()))
    given[0] = status(workers=())
    counted.add(delta(an_exchange()))

    labels = (("http_route", "payments"), ("sent_upstream", "yes"))
    assert samples(counted)["payproxy_exchanges_total", labels] == 3


@pytest.mark.parametrize(
    "broken",
    [
        {"requests": (RequestCount("GET", "payments", 200, "yes", "", [1.0]),)},
        {"sends": (SendCount("bank", 200, []),)},
        {"overhead": (OverheadCount("payments", [1.0] * 30),)},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_histograms_of_another_length_count_nothing(broken: dict[str, Any]) -> None:
    """Half of a report is never counted."""
    counted = metrics()

    with pytest.raises(CountsUnusable):
        counted.add(delta(an_exchange())._replace(**broken))

    assert not any(value for (name, _), value in samples(counted).items() if name.startswith("payproxy_exchanges"))


def test_a_worker_can_not_fill_the_keepers_memory() -> None:
    """Above a bound new label values share one row, and nothing is lost."""
    counted = metrics()
    replays = (ReplayCount(f"credential-{number}", "succeeded", 1.0) for number in range(MAX_ROWS + 500))
    counted.add(Counts(replays=tuple(replays)))

    found = {labels: value for (name, labels), value in samples(counted).items() if name == "payproxy_replays_total"}
    assert len([value for value in found.values() if value]) == MAX_ROWS + 1
    assert found[("credential", "_OTHER"), ("outcome", "_OTHER")] == 500


def test_mints_are_counted_by_outcome_and_begin_at_zero() -> None:
    """Each credential has all three outcomes from the start, so that rate() sees the first refusal."""
    counted = metrics()
    name = "payproxy_token_mint_total"
    assert samples(counted)[name, (("credential", "login"), ("outcome", "token_refused"))] == 0

    counted.observe(MINTED)
    counted.observe(MINTED)
    counted.observe(FAILED)

    found = samples(counted)
    assert found[name, (("credential", "login"), ("outcome", "minted"))] == 2
    assert found[name, (("credential", "login"), ("outcome", "token_refused"))] == 1
    assert found[name, (("credential", "login"), ("outcome", "token_unavailable"))] == 0


def test_counters_whose_labels_are_known_begin_at_zero() -> None:
    """So that the first unknown outcome, refusal or error raises its alert: rate() sees no step that it began with."""
    ramp = MigrationStatus(name="adfs", weight=10, version=1, who="w", when=0.0, reason="r", phase="ramp", last_good=0)
    found = samples(metrics(status(routes=("payments", "reports"), migrations=(ramp,), sinks=(sink(),))))

    zeros = {(name, labels) for (name, labels), value in found.items() if name.endswith("_total") and value == 0}
    for route in ("payments", "reports"):
        for sent in ("no", "yes", "unknown"):
            assert ("payproxy_exchanges_total", (("http_route", route), ("sent_upstream", sent))) in zeros
    assert ("payproxy_exchanges_total", (("http_route", ""), ("sent_upstream", "no"))) in zeros
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ProxyError)]
    for kind in kinds:
        assert ("payproxy_errors_total", (("code", kind.code),)) in zeros
    for outcome in REPLAY_OUTCOMES:
        assert ("payproxy_replays_total", (("credential", "login"), ("outcome", outcome))) in zeros
    for side in ("legacy", "modern"):
        labels = (("migration", "adfs"), ("outcome", "refused"), ("side", side))
        assert ("payproxy_migration_requests_total", labels) in zeros
    assert ("payproxy_log_dropped_total", (("sink", "stdout"),)) in zeros
    # The codes of the facade's token endpoint, where there is one.
    own = (("code", "unsupported_grant_type"),)
    assert ("payproxy_errors_total", own) not in zeros
    assert samples(metrics(status(facade=True)))["payproxy_errors_total", own] == 0


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (an_exchange(replayed=True), "succeeded"),
        (an_exchange(replayed=True, note="fresh_token_refused"), "refused"),
        (an_exchange(replayed=True, origin="proxy"), "failed"),
        (an_exchange(note="body_not_held"), "body_not_held"),
        (an_exchange(note="no_newer_token"), "no_newer_token"),
        (an_exchange(note="upstream_unreachable"), "prevented"),
    ],
    ids=REPLAY_OUTCOMES,
)
def test_the_outcomes_of_replays_are_those_that_begin_at_zero(exchange: RequestSummary, outcome: str) -> None:
    """The list from which the zeros come is the one of the counter."""
    assert replay_outcome(exchange) == outcome


def test_what_is_going_on_is_measured() -> None:
    """Requests, connections and paused accepting of each worker; of two with one number, as in a reload, the sum."""
    workers = (
        worker(1, in_flight=3, connections=5, full=True),
        worker(1, state=WorkerState.DRAINING, in_flight=2, connections=2),
        worker(2, connections=7),
    )
    found = samples(metrics(status(workers=workers, workers_wanted=2)))

    one, two = (("worker", "1"),), (("worker", "2"),)
    assert (found["payproxy_requests_in_flight", one], found["payproxy_requests_in_flight", two]) == (5, 0)
    assert (found["payproxy_connections", one], found["payproxy_connections", two]) == (7, 7)
    assert (found["payproxy_accept_paused", one], found["payproxy_accept_paused", two]) == (1, 0)
    assert found["payproxy_ready", ()] == 1


@pytest.mark.parametrize("given", [status(draining=True), status(workers=())], ids=["draining", "no worker"])
def test_readiness_is_what_readyz_says(given: Status) -> None:
    """One truth for load balancers and alerts."""
    assert samples(metrics(given))["payproxy_ready", ()] == 0


def test_the_expiry_of_a_token_is_that_of_the_one_in_use() -> None:
    """A slot without a token has no expiry; of two with one audience the first to end is shown."""
    tokens = (token(expires=200.0), token(expires=100.0, scope="x"), no_token(audience="reports"))
    found = samples(metrics(status(workers=(), tokens=tokens)))

    expiries = {labels: value for (name, labels), value in found.items() if "token_expiry" in name}
    assert expiries == {(("audience", "jpm:uri:prod:payments"), ("credential", "login")): 100.0}


def test_a_mint_that_failed_last_is_seen() -> None:
    """Until the next one succeeds, however long that takes; of two scopes of one audience the failing one counts."""
    failed = no_token(error_code="token_refused", scope="x")
    found = samples(metrics(status(tokens=(failed, token(), no_token(audience="reports", tried=False)))))

    last = {labels: value for (name, labels), value in found.items() if name == "payproxy_token_last_mint_successful"}
    assert last == {(("audience", "jpm:uri:prod:payments"), ("credential", "login")): 0}
    again = samples(metrics(status()))
    assert again["payproxy_token_last_mint_successful", next(iter(last))] == 1


def test_what_a_killed_worker_had_in_flight_is_counted() -> None:
    """It could not count it itself."""
    counted = metrics(status(routes=("payments",)))
    name = ("payproxy_exchanges_total", (("http_route", "payments"), ("sent_upstream", "unknown")))
    assert samples(counted)[name] == 0

    counted.observe(OutcomeUnknown(route="payments"))

    assert samples(counted)[name] == 1


def test_lost_records_are_counted_from_zero_on() -> None:
    """An alert sees the first loss as a rise."""
    counted = metrics()
    assert samples(counted)["payproxy_records_lost_total", ()] == 0

    counted.observe(RecordsLost(count=7))
    counted.observe(RecordsLost(count=2))

    assert samples(counted)["payproxy_records_lost_total", ()] == 9


def test_the_skew_of_a_credential_that_is_gone_is_gone() -> None:
    """A gauge does not outlive what it speaks of: after a reload the old credential's skew is not repeated."""
    given = [status(workers=())]
    counted = Metrics(status=lambda: given[0])
    counted.observe(ClockSkewMeasured(credential="login", seconds=-7.5))
    assert samples(counted)["payproxy_clock_skew_seconds", (("credential", "login"),)] == -7.5

    given[0] = status(workers=(), tokens=(token(credential="adfs"),))

    assert not any(name == "payproxy_clock_skew_seconds" for name, _ in samples(counted))


def test_status_becomes_gauges() -> None:
    """Certificates, backlog, dropped records, the last reload and the build are told as they are at the scrape."""
    certificates = (
        CertificateStatus(name="login", use="credential", subject="CN=x", expires=300.0),
        CertificateStatus(name="login", use="credential", subject="CN=ca", expires=200.0),
    )
    given = status(
        workers=(),
        certificates=certificates,
        sinks=(
            sink("stdout", dropped=3),
            sink("database", backlog=17, failing="disk I/O error"),
        ),
        reload_problem="refused",
        shares_tokens=True,
        sharing_problem="it can't be reached",
    )

    found = samples(metrics(given))

    name = "payproxy_certificate_expiry_timestamp_seconds"
    assert found[name, (("name", "login"), ("use", "credential"))] == 200.0
    assert found["payproxy_journal_backlog_records", ()] == 17
    assert found["payproxy_log_dropped_total", (("sink", "stdout"),)] == 3
    assert found["payproxy_log_sink_available", (("sink", "stdout"),)] == 1
    assert found["payproxy_log_sink_available", (("sink", "database"),)] == 0
    assert found["payproxy_config_last_reload_successful", ()] == 0
    assert found["payproxy_token_sharing_available", ()] == 0
    build = {"python": platform.python_version(), "version": "1.2.3", "environment": "production", "instance": "host-1"}
    assert found["payproxy_build_info", tuple(sorted(build.items()))] == 1


def test_a_good_reload_is_successful() -> None:
    """Without a refused reload the gauge says 1."""
    assert samples(metrics())["payproxy_config_last_reload_successful", ()] == 1


def test_processes_of_keeper_and_workers_are_measured() -> None:
    """The keeper has the standard names without a label, a worker the same with its number."""
    code = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            found = samples(metrics(status(workers=(worker(3, pid=child.pid),))))
        finally:
            child.send_signal(signal.SIGKILL)

    assert found["process_resident_memory_bytes", ()] > 0
    assert found["process_cpu_seconds_total", ()] > 0
    assert found["process_open_fds", ()] > 0
    assert found["process_resident_memory_bytes", (("worker", "3"),)] > 0
    assert ("process_cpu_seconds_total", (("worker", "3"),)) in found


def test_a_worker_that_ended_before_the_scrape_is_left_out() -> None:
    """A process that is gone is no error and no zero."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    found = samples(metrics(status(workers=(worker(1, pid=child.pid),))))

    assert ("process_resident_memory_bytes", ()) in found
    assert ("process_resident_memory_bytes", (("worker", "1"),)) not in found


def test_of_two_processes_with_one_number_the_younger_is_shown() -> None:
    """During a reload the old worker drains beside the new one; no series stands twice."""
    workers = (worker(1, pid=os.getpid(), started=2.0), worker(1, pid=os.getppid(), started=1.0))
    found = samples(metrics(status(workers=workers)))

    assert found["process_start_time_seconds", (("worker", "1"),)] == found["process_start_time_seconds", ()]


def test_every_name_of_the_contract_that_works_now_is_there() -> None:
    """The scrape of a lively keeper has each family of contract.md section 4 but the migration's."""
    counted = metrics(
        status(
            certificates=(CertificateStatus(name="login", use="credential", subject="CN=x", expires=300.0),),
            sinks=(sink(),),
        )
    )
    counted.add(delta(an_exchange(), an_exchange(code="overloaded"), an_exchange(replayed=True)))
    counted.observe(ClockSkewMeasured(credential="login", seconds=0.0))

    names = {name.removesuffix("_bucket") for name, _ in samples(counted)}
    assert names >= {
        "http_server_request_duration_seconds",
        "http_client_request_duration_seconds",
        "payproxy_overhead_seconds",
        "payproxy_exchanges_total",
        "payproxy_errors_total",
        "payproxy_token_mint_total",
        "payproxy_token_expiry_timestamp_seconds",
        "payproxy_clock_skew_seconds",
        "payproxy_certificate_expiry_timestamp_seconds",
        "payproxy_replays_total",
        "payproxy_journal_backlog_records",
        "payproxy_log_dropped_total",
        "payproxy_records_lost_total",
        "payproxy_config_last_reload_successful",
        "payproxy_build_info",
        "process_resident_memory_bytes",
    }


def test_prometheus_own_tool_finds_nothing_to_object_to() -> None:
    """Names, units, types and help texts are as Prometheus wants them, with each family filled."""
    ramp = MigrationStatus(name="adfs", weight=10, version=1, who="w", when=0.0, reason="r", phase="ramp", last_good=0)
    certificate = CertificateStatus(name="login", use="credential", subject="CN=x", expires=300.0)
    counted = metrics(status(certificates=(certificate,), migrations=(ramp,), sinks=(sink(),), routes=("payments",)))
    counted.add(delta(an_exchange(code="overloaded"), an_exchange(replayed=True)))
    counted.observe(ClockSkewMeasured(credential="login", seconds=0.0))

    assert promtool("check", "metrics", text=counted.render("")[1].decode()) == ""


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    """OpenMetrics parses strictly and ends in EOF; a version that the client made up is not handed back."""
    counted = metrics()
    counted.add(delta(an_exchange()))

    content_type, text = counted.render("text/html;q=0.1, Application/OpenMetrics-text; version=9.9.x")

    assert content_type == OPENMETRICS
    assert text.endswith(b"# EOF\n")
    parsed = openmetrics.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call] # has no types
    families = {family.name: family for family in parsed}
    assert sum(sample.value for sample in families["payproxy_exchanges"].samples) == 1


def test_the_text_format_is_the_default() -> None:
    """Without a wish it is Prometheus' text format 0.0.4."""
    content_type, _ = metrics().render("*/*")

    assert content_type == TEXT


def test_labels_are_escaped() -> None:
    """A label's quotes and line ends can't forge a series."""
    counted = metrics()
    counted.add(delta(an_exchange(route='a"} 1\nforged 7\\')))

    found = samples(counted)
    assert not any(name == "forged" for name, _ in found)
    assert ("payproxy_exchanges_total", (("http_route", 'a"} 1\nforged 7\\'), ("sent_upstream", "yes"))) in found


def test_nothing_is_registered_globally() -> None:
    """Two keepers' metrics in one process know nothing of each other, nor of the library's global registry."""
    first, second = metrics(), metrics()
    first.observe(MINTED)

    name = ("payproxy_token_mint_total", (("credential", "login"), ("outcome", "minted")))
    assert samples(first)[name] == 1
    assert samples(second)[name] == 0
    assert b"payproxy" not in prometheus_client.generate_latest()
