"""Each alert fires on the series that it is for and on no others, by Prometheus' own tool."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.export.prometheus import prometheus
from proxy.settings.model import Settings
from tests.export.support import MIGRATING, everything, example, promtool, with_redis

A, B = 'job="payproxy",instance="a:9901"', 'job="payproxy",instance="b:9901"'
# Samples are 15 s apart. In promtool's notation 0+0x8 is nine zeros, _ a missing sample.
ALWAYS = "1+0x80"
Series = Mapping[str, str]


def build(labels: str, environment: str = "production") -> str:
    """Return the name of the series that says which environment an instance belongs to."""
    return f'payproxy_build_info{{{labels},environment="{environment}",version="1",exported_instance="host"}}'


@dataclass(frozen=True, kw_only=True)
class Case:
    """*series* fire *alert* at *at* with *severity*, *labels* and *description*; *quiet* are some that never do."""

    alert: str
    severity: str
    series: Series
    quiet: tuple[Series, ...]
    at: str = "2m"
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str
    summary: str
    # Without it a:9901 and b:9901 are up.
    others: bool = True
    everything: bool = False


HERE = {"job": "payproxy", "instance": "a:9901"}
ROUTES = "Routes that need it: online-payments, balances."
READY = "payproxy_ready"
LOWERED = "payproxy_migration_weight_ratio"

CASES = [
    Case(
        alert="PayproxyDown",
        severity="critical",
        series={},
        others=False,
        quiet=({build(A): ALWAYS}, {build(A): "_x5 1+0x80"}),
        summary="Prometheus gets metrics from no instance",
        description="No instance of the environment production answers Prometheus: all are down, or none is among its "
        "targets.",
    ),
    Case(
        alert="PayproxyDown",
        severity="warning",
        at="10m",
        series={f"up{{{A}}}": "1+0x4 0+0x80", build(A): "1+0x4 stale"},
        # A restart, and something else that is down.
        quiet=({f"up{{{A}}}": "1+0x4 0+0x10 1+0x80", build(A): "1+0x4 _x10 1+0x80"}, {'up{job="node"}': "0+0x80"}),
        labels=HERE,
        summary="An instance does not answer Prometheus",
        description="a:9901 has not answered Prometheus for 5 minutes. Whether the others carry its load is not known "
        "to this rule.",
    ),
    Case(
        alert="PayproxyNotReady",
        severity="critical",
        series={f"{READY}{{{A}}}": "0+0x80", f"{READY}{{{B}}}": "0+0x80"},
        quiet=({f"{READY}{{{A}}}": "0+0x12 1+0x80", f"{READY}{{{B}}}": ALWAYS},),
        summary="No instance is ready",
        description="Every instance of the environment production that answers says that it can't serve requests.",
    ),
    Case(
        alert="PayproxyNotReady",
        severity="warning",
        at="6m",
        series={f"{READY}{{{A}}}": "0+0x80", f"{READY}{{{B}}}": ALWAYS},
        # It stops for as long as a request may take; then it is gone, or serves again.
        quiet=(
            {f"{READY}{{{A}}}": "1+0x4 0+0x13 stale", f"{READY}{{{B}}}": ALWAYS},
            {f"{READY}{{{A}}}": "1+0x4 0+0x13 1+0x80", f"{READY}{{{B}}}": ALWAYS},
        ),
        labels=HERE,
        summary="An instance is not ready for longer than a stop takes",
        description="a:9901 has said for 260 s that it can't serve requests.",
    ),
    Case(
        alert="PayproxyAcceptPaused",
        severity="warning",
        series={f'payproxy_accept_paused{{{A},worker="2"}}': ALWAYS},
        quiet=({f'payproxy_accept_paused{{{A},worker="2"}}': "0 1 1 0+0x80"},),
        labels=HERE | {"worker": "2"},
        summary="New callers wait: a worker has no file descriptor left",
        description="Worker 2 of a:9901 has had no file descriptor for new callers for a minute.",
    ),
    Case(
        alert="PayproxyReloadRefused",
        severity="warning",
        series={f"payproxy_config_last_reload_successful{{{A}}}": "0+0x80"},
        quiet=({f"payproxy_config_last_reload_successful{{{A}}}": ALWAYS},),
        labels=HERE,
        summary="The configuration or a key that was read last is not in force",
        description="a:9901 has refused what it read last, and goes on with what it had before.",
    ),
    *(
        Case(
            alert="PayproxyOutcomeUnknown",
            severity="critical",
            # One after a start, one after a restart that began to count anew.
            series={f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="unknown"}}': values},
            quiet=(
                {f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="yes"}}': "0+3x80"},
                # A restart alone: the counter begins anew, or is missing for a while.
                {f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="unknown"}}': "5+0x4 0+0x80"},
                {f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="unknown"}}': "0+0x4 _x4 0+0x80"},
            ),
            labels=HERE | {"http_route": "balances"},
            summary="The bank may or may not have executed a request",
            description='a:9901 got no answer to some 1 requests of the route "balances" within 5 minutes. They were '
            "handed to the bank and are not sent again.",
        )
        for values in ("0+0x4 1+0x80", "5+0x4 1+0x80")
    ),
    Case(
        alert="PayproxyUpstreamFails",
        severity="warning",
        at="12m",
        series={
            f'payproxy_errors_total{{{A},code="upstream_reset"}}': "0+1x80",
            f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="yes"}}': "0+6x80",
            f'payproxy_exchanges_total{{{A},http_route="",sent_upstream="no"}}': "0+4x80",
        },
        quiet=(
            {
                f'payproxy_errors_total{{{A},code="upstream_reset"}}': "0+1x80",
                f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="yes"}}': "0+30x80",
            },
            # A single failure of an instance with little to do, and one with nothing to do.
            {
                f'payproxy_errors_total{{{A},code="upstream_reset"}}': "0+0x8 1+0x80",
                f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="yes"}}': "0+0x8 1+0x80",
            },
            {
                f'payproxy_errors_total{{{A},code="upstream_reset"}}': "0+0x80",
                f'payproxy_exchanges_total{{{A},http_route="balances",sent_upstream="yes"}}': "0+0x80",
            },
        ),
        labels=HERE | {"code": "upstream_reset"},
        summary="More than 5 % of the requests fail at the bank or on the way to it",
        description="10% of the requests at a:9901 have ended with upstream_reset, measured over 5m.",
    ),
    Case(
        alert="PayproxyOverloaded",
        severity="warning",
        series={f'payproxy_errors_total{{{A},code="overloaded"}}': "0+0x4 7+0x80"},
        quiet=(
            {f'payproxy_errors_total{{{A},code="overloaded"}}': "7+0x4 0+0x80"},
            {f'payproxy_errors_total{{{A},code="bad_request"}}': "0+1x80"},
        ),
        labels=HERE,
        summary="Requests are refused because a limit is reached",
        description="a:9901 has refused some 7 requests with 503 overloaded within 5 minutes.",
    ),
    Case(
        alert="PayproxySignaturesFail",
        severity="warning",
        everything=True,
        series={f'payproxy_body_signatures_total{{{A},http_route="payments",outcome="late"}}': "0+0x4 3+0x80"},
        quiet=(
            {f'payproxy_body_signatures_total{{{A},http_route="payments",outcome="signed"}}': "0+1x80"},
            {f'payproxy_body_signatures_total{{{A},http_route="payments",outcome="late"}}': "3+0x4 0+0x80"},
        ),
        labels=HERE | {"http_route": "payments", "outcome": "late"},
        summary="Bodies can't be signed, so their requests are not sent",
        description='a:9901: some 3 requests of the route "payments" got no signature within 5 minutes, outcome late. '
        "Their callers got 503 signature_unavailable.",
    ),
    Case(
        alert="PayproxyReplaysFail",
        severity="warning",
        series={f'payproxy_replays_total{{{A},credential="login",outcome="refused"}}': "0+0x4 2+0x80"},
        quiet=({f'payproxy_replays_total{{{A},credential="login",outcome="succeeded"}}': "0+1x80"},),
        labels=HERE | {"credential": "login", "outcome": "refused"},
        summary="The bank refused a token, and no second send helped",
        description="a:9901: some 2 requests with a token of login within 15 minutes, outcome refused.",
    ),
    Case(
        alert="PayproxyTokenMintFails",
        severity="warning",
        at="11m",
        series={f'payproxy_token_last_mint_successful{{{A},credential="login",audience="x"}}': "0+0x80"},
        quiet=({f'payproxy_token_last_mint_successful{{{A},credential="login",audience="x"}}': "0+0x30 1+0x80"},),
        labels=HERE | {"credential": "login", "audience": "x"},
        summary="A token endpoint has given no token for 10 minutes",
        description=f"a:9901 gets no new token of login, audience x. {ROUTES}",
    ),
    *(
        Case(
            alert="PayproxyTokenRunsOut",
            severity="critical",
            at="3m",
            series=series,
            quiet=(
                {f'payproxy_token_expiry_timestamp_seconds{{{A},credential="adfs",audience=""}}': "3600+0x80"},
                # Renewed in time, just so.
                {f'payproxy_token_expiry_timestamp_seconds{{{A},credential="adfs",audience=""}}': "70 70 7200+0x80"},
                # The token endpoint is down, and the token that is there is good.
                {
                    f'payproxy_token_expiry_timestamp_seconds{{{A},credential="adfs",audience=""}}': "3600+0x80",
                    f'payproxy_token_last_mint_successful{{{A},credential="adfs",audience=""}}': "0+0x80",
                },
            ),
            labels=HERE | {"credential": "adfs"},
            summary="A token ends within a minute, or has ended, and no new one came",
            description=f"a:9901 has no token of adfs that is valid for another minute. {ROUTES}",
        )
        for series in (
            {f'payproxy_token_expiry_timestamp_seconds{{{A},credential="adfs",audience=""}}': "100+0x80"},
            # It has ended, so that there is none.
            {
                f'payproxy_token_expiry_timestamp_seconds{{{A},credential="adfs",audience=""}}': "100+0x4 stale",
                f'payproxy_token_last_mint_successful{{{A},credential="adfs",audience=""}}': "0+0x80",
            },
        )
    ),
    Case(
        alert="PayproxyTokenSharingLost",
        severity="warning",
        at="11m",
        series={f"payproxy_token_sharing_available{{{A}}}": "1+0x2 0+0x80"},
        quiet=(
            {f"payproxy_token_sharing_available{{{A}}}": "0+0x30 1+0x80"},
            {f"payproxy_token_sharing_available{{{A}}}": ALWAYS},
        ),
        labels=HERE,
        summary="An instance has not shared tokens with the others for 10 minutes",
        description="a:9901 mints its own tokens instead of sharing those of the other instances. Requests are served.",
        everything=True,
    ),
    Case(
        alert="PayproxyClockSkew",
        severity="warning",
        at="11m",
        series={f'payproxy_clock_skew_seconds{{{A},credential="login"}}': "-45+0x80"},
        quiet=({f'payproxy_clock_skew_seconds{{{A},credential="login"}}': "29+0x80"},),
        labels=HERE | {"credential": "login"},
        summary="This machine's clock and the token endpoint's differ by more than 30 s",
        description="a:9901: the token endpoint of login is 45s away.",
    ),
    Case(
        alert="PayproxyCertificateExpires",
        severity="warning",
        series={f'payproxy_certificate_expiry_timestamp_seconds{{{A},name="login",use="credential"}}': "1728120+0x80"},
        quiet=({f'payproxy_certificate_expiry_timestamp_seconds{{{A},name="a",use="server"}}': "2678400+0x80"},),
        labels=HERE | {"name": "login", "use": "credential"},
        summary="A certificate ends within 30 days",
        description="a:9901: the certificate of login (use credential) ends in 20d 0h 0m 0s.",
    ),
    Case(
        alert="PayproxyLogBehind",
        severity="warning",
        at="11m",
        series={f"payproxy_journal_backlog_records{{{A}}}": "20000+0x80"},
        quiet=({f"payproxy_journal_backlog_records{{{A}}}": "20000+0x30 0+0x80"},),
        labels=HERE,
        summary="A sink of the request log is more than 10000 records behind",
        description="a:9901 keeps 20000 records that a sink has not taken.",
    ),
    Case(
        alert="PayproxyLogSinkAway",
        severity="warning",
        at="11m",
        series={f'payproxy_log_sink_available{{{A},sink="database"}}': "0+0x80"},
        quiet=({f'payproxy_log_sink_available{{{A},sink="database"}}': "0+0x30 1+0x80"},),
        labels=HERE | {"sink": "database"},
        summary="A sink of the request log takes no records",
        description="a:9901: the sink database has taken no records for 10 minutes. They are kept.",
    ),
    Case(
        alert="PayproxyLogDropped",
        severity="warning",
        series={f'payproxy_log_dropped_total{{{A},sink="otlp"}}': "0+0x4 3+0x80"},
        quiet=({f'payproxy_log_dropped_total{{{A},sink="otlp"}}': "3+0x4 0+0x80"},),
        labels=HERE | {"sink": "otlp"},
        summary="A sink of the request log has refused records for good",
        description="a:9901: the sink otlp never got some 3 records of the last 15 minutes.",
    ),
    Case(
        alert="PayproxyRecordsLost",
        severity="warning",
        series={f"payproxy_records_lost_total{{{A}}}": "0+0x4 3+0x80"},
        # A loss of before, and an instance that was started anew.
        quiet=({f"payproxy_records_lost_total{{{A}}}": "3+0x4 0+0x80"},),
        labels=HERE,
        summary="Requests were served that have no record",
        description="a:9901: some 3 records of the last 15 minutes are lost. The request log says why.",
    ),
    Case(
        alert="PayproxyMigrationRolledBack",
        severity="warning",
        # Raised, and taken back by the guard a minute later.
        series={f'{LOWERED}{{{A},migration="payments"}}': "0.1+0x2 0.2+0x2 0.1+0x80"},
        quiet=(
            {f'{LOWERED}{{{A},migration="payments"}}': "0.1+0x2 0.2+0x80"},
            # Restarted, and finished.
            {f'{LOWERED}{{{A},migration="payments"}}': "0.2+0x2 _x4 0.2+0x80"},
            {f'{LOWERED}{{{A},migration="payments"}}': "1+0x2 stale"},
        ),
        labels=HERE | {"migration": "payments"},
        summary="A migration went back to a lower weight",
        description="payments has gone back to a share of 10% on the modern side within 10 minutes, at a:9901.",
    ),
    Case(
        alert="PayproxyRetryPinsMany",
        severity="warning",
        # All migrations share the bound.
        series={
            f'payproxy_migration_retry_pins{{{A},migration="{name}"}}': "800000+0x80" for name in ("balances", "pay")
        },
        quiet=({f'payproxy_migration_retry_pins{{{A},migration="pay"}}': "800000+0x80"},),
        labels=HERE,
        summary="There are more than 1500000 retry pins",
        description="a:9901 has 1600000 retry pins. At 2000000 the oldest are dropped.",
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.severity}")


def expected(case: Case) -> dict[str, Any]:
    """Return the alert of *case* in promtool's form."""
    return {
        "exp_labels": {"severity": case.severity, "environment": "production", **case.labels},
        "exp_annotations": {
            "summary": case.summary,
            "description": case.description,
            "runbook_url": f"docs/operations.md#{case.alert.lower()}",
        },
    }


def check(directory: Path, alert: str, tests: Sequence[tuple[Series, Sequence[str], list[Any]]], rules: str) -> None:
    """Have promtool compare what fires of *alert* on each series, at some times, with what is expected."""
    (directory / "rules.yaml").write_text(rules)
    values = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"alertname": alert, "eval_time": at, "exp_alerts": alerts} for at in times],
            }
            for series, times, alerts in tests
        ],
    }
    (directory / "tests.yaml").write_text(json.dumps(values, indent=1))  # JSON is YAML
    promtool("test", "rules", str(directory / "tests.yaml"))


def rules(settings: Settings | None = None, *, whole: bool = False) -> str:
    """Return the rules of *settings*, or of a configuration with migrations, if *whole* of one that has everything."""
    return prometheus(settings or (everything() if whole else example(MIGRATING)))


def with_others(series: Series, environment: str = "production") -> Series:
    """Return *series* beside two instances that are up."""
    return {build(one, environment): ALWAYS for one in (A, B)} | dict(series)


@each_case
def test_it_fires(tmp_path: Path, case: Case) -> None:
    """With its labels, and a description that has the value."""
    series = with_others(case.series) if case.others else case.series
    check(tmp_path, case.alert, [(series, [case.at], [expected(case)])], rules(whole=case.everything))


@each_case
def test_it_is_quiet(tmp_path: Path, case: Case) -> None:
    """At no time on series that only look like it: a restart, a short disturbance, another label."""
    # No sample, no instance: at the beginning that is so for a minute.
    times = [f"{minute}m" for minute in (1, 2, 3, 5, 8, 12, 15) if case.others or minute > 1]
    tests = [(with_others(series) if case.others else series, times, list[Any]()) for series in case.quiet]
    check(tmp_path, case.alert, tests, rules(whole=case.everything))


@pytest.mark.parametrize("case", [case for case in CASES if case.others], ids=lambda case: case.alert)
def test_another_environment_is_not_ours(tmp_path: Path, case: Case) -> None:
    """One Prometheus may have the instances of all: each has rules from its own configuration."""
    series = {build('job="payproxy",instance="c:9901"'): ALWAYS, **with_others(case.series, "client-testing")}
    series = {name: values for name, values in series.items() if name != build(A)}
    check(tmp_path, case.alert, [(series, [case.at], [])], rules(whole=case.everything))


def test_every_alert_is_tried() -> None:
    """A new one has to be added above."""
    names = {line.split()[-1] for line in rules(whole=True).splitlines() if "- alert:" in line}
    assert {case.alert for case in CASES} == names


def test_a_certificate_that_ends_in_days_is_critical_too(tmp_path: Path) -> None:
    """Two alerts of one name: a reminder, and a page."""
    name = "payproxy_certificate_expiry_timestamp_seconds"
    series = with_others({f'{name}{{{A},name="login",use="credential"}}': "172920+0x80"})
    both = [
        {
            "exp_labels": {"severity": severity, "environment": "production", "name": "login", "use": "credential"}
            | HERE,
            "exp_annotations": {
                "summary": f"A certificate ends within {days} days",
                "description": "a:9901: the certificate of login (use credential) ends in 2d 0h 0m 0s.",
                "runbook_url": "docs/operations.md#payproxycertificateexpires",
            },
        }
        for severity, days in (("critical", 3), ("warning", 30))
    ]
    check(tmp_path, "PayproxyCertificateExpires", [(series, ["2m"], both)], rules())


def test_replicas_that_share_weights_are_one_alert(tmp_path: Path) -> None:
    """A rollback is one event, however many instances follow it."""
    settings = with_redis(MIGRATING)
    series = with_others(
        {f'{LOWERED}{{{one},migration="payments"}}': "0.2+0x2 0.1+0x80" for one in (A, B)},
    )
    alert = {
        "exp_labels": {"severity": "warning", "environment": "production", "migration": "payments"},
        "exp_annotations": {
            "summary": "A migration went back to a lower weight",
            "description": "payments has gone back to a share of 10% on the modern side within 10 minutes.",
            "runbook_url": "docs/operations.md#payproxymigrationrolledback",
        },
    }
    check(tmp_path, "PayproxyMigrationRolledBack", [(series, ["2m"], [alert])], rules(settings))
