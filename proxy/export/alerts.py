"""The alerts that fit a configuration: what Prometheus evaluates, and what the person who is paged reads."""

import math
from collections.abc import Iterator

from proxy.export.alert import Alert, Severity, duration
from proxy.migration.pin_table import MOST_PINS
from proxy.settings.model import Settings

# Annotations are Go templates, which Prometheus fills in.
_INSTANCE = "{{ $labels.instance }}"
_COUNT = '{{ printf "%.0f" $value }}'
_SHARE = "{{ $value | humanizePercentage }}"
_DURATION = "{{ $value | humanizeDuration }}"

_DAY_SECONDS = 86400
# Less than a record and its intent have in the journal.
_RECORD_BYTES = 2048
_BACKLOG_RECORDS = 10_000


def alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts whose metrics exist with *settings*."""
    here = f'payproxy_build_info{{environment="{settings.environment}"}}'
    # The instances of this environment, also one that was scraped a moment ago: what it counted still matters.
    ours = f"and on (job, instance) last_over_time({here}[15m])"
    return (
        *_of_instances(settings, here, ours),
        *_of_requests(settings, ours),
        *_of_tokens(settings, ours),
        *_of_certificates(settings, ours),
        *_of_the_log(settings, ours),
        *_of_migrations(settings, ours),
    )


def _of_instances(settings: Settings, here: str, ours: str) -> Iterator[Alert]:
    environment = settings.environment
    yield Alert(
        name="PayproxyDown",
        severity="critical",
        expr=f"absent({here})",
        seconds=60,
        summary="Prometheus gets metrics from no instance",
        description=f"No instance of the environment {environment} answers Prometheus: all are down, or none is among "
        "its targets.",
    )
    yield Alert(
        name="PayproxyDown",
        severity="warning",
        expr=f"up == 0 and on (job, instance) last_over_time({here}[1d])",
        seconds=300,
        summary="An instance does not answer Prometheus",
        description=f"{_INSTANCE} has not answered Prometheus for 5 minutes. Whether the others carry its load is not "
        "known to this rule.",
    )
    yield Alert(
        name="PayproxyNotReady",
        severity="critical",
        expr=f"max(payproxy_ready {ours}) == 0",
        seconds=60,
        summary="No instance is ready",
        description=f"Every instance of the environment {environment} that answers says that it can't serve requests.",
    )
    # An instance that stops is not ready while it finishes what it has.
    stopping = math.ceil(settings.server.exchange_timeout) + 60
    yield Alert(
        name="PayproxyNotReady",
        severity="warning",
        expr=f"payproxy_ready == 0 {ours}",
        seconds=stopping,
        summary="An instance is not ready for longer than a stop takes",
        description=f"{_INSTANCE} has said for {stopping} s that it can't serve requests.",
    )
    yield Alert(
        name="PayproxyAcceptPaused",
        severity="warning",
        expr=f"payproxy_accept_paused == 1 {ours}",
        seconds=60,
        summary="New callers wait: a worker has no file descriptor left",
        description=f"Worker {{{{ $labels.worker }}}} of {_INSTANCE} has had no file descriptor for new callers for a "
        "minute.",
    )
    yield Alert(
        name="PayproxyReloadRefused",
        severity="warning",
        expr=f"payproxy_config_last_reload_successful == 0 {ours}",
        summary="The configuration or a key that was read last is not in force",
        description=f"{_INSTANCE} has refused what it read last, and goes on with what it had before.",
    )


def _of_requests(settings: Settings, ours: str) -> Iterator[Alert]:
    yield Alert(
        name="PayproxyOutcomeUnknown",
        severity="critical",
        expr='sum by (job, instance, http_route) (increase(payproxy_exchanges_total{sent_upstream="unknown"}[5m])) > 0 '
        + ours,
        summary="The bank may or may not have executed a request",
        description=f"{_INSTANCE} got no answer to some {_COUNT} requests of the route "
        '"{{ $labels.http_route }}" within 5 minutes. They were handed to the bank and are not sent again.',
    )
    # A request that times out is counted when it ends: the window has to hold several of them.
    slowest = max((one.response_timeout for one in settings.upstreams.values()), default=0)
    window = duration(max(300, 60 * math.ceil(2 * slowest / 60)))
    yield Alert(
        name="PayproxyUpstreamFails",
        severity="warning",
        expr=f'sum by (job, instance, code) (rate(payproxy_errors_total{{code=~"upstream_.*"}}[{window}])) '
        f"/ on (job, instance) group_left sum by (job, instance) (rate(payproxy_exchanges_total[{window}])) > 0.05 "
        + ours,
        seconds=300,
        summary="More than 5 % of the requests fail at the bank or on the way to it",
        description=f"{_SHARE} of the requests at {_INSTANCE} have ended with {{{{ $labels.code }}}}, measured over "
        f"{window}.",
    )
    yield Alert(
        name="PayproxyOverloaded",
        severity="warning",
        expr=f'sum by (job, instance) (increase(payproxy_errors_total{{code="overloaded"}}[5m])) > 0 {ours}',
        summary="Requests are refused because a limit is reached",
        description=f"{_INSTANCE} has refused some {_COUNT} requests with 503 overloaded within 5 minutes.",
    )
    if any(route.signature.configured for route in settings.routes):
        yield Alert(
            name="PayproxySignaturesFail",
            severity="warning",
            expr="sum by (job, instance, http_route, outcome) "
            f'(increase(payproxy_body_signatures_total{{outcome!="signed"}}[5m])) > 0 {ours}',
            summary="Bodies can't be signed, so their requests are not sent",
            description=f'{_INSTANCE}: some {_COUNT} requests of the route "{{{{ $labels.http_route }}}}" got no '
            "signature within 5 minutes, outcome {{ $labels.outcome }}. Their callers got 503 signature_unavailable.",
        )
    yield Alert(
        name="PayproxyReplaysFail",
        severity="warning",
        expr="sum by (job, instance, credential, outcome) "
        f'(increase(payproxy_replays_total{{outcome!="succeeded"}}[15m])) > 0 {ours}',
        summary="The bank refused a token, and no second send helped",
        description=f"{_INSTANCE}: some {_COUNT} requests with a token of {{{{ $labels.credential }}}} within 15 "
        "minutes, outcome {{ $labels.outcome }}.",
    )


def _of_tokens(settings: Settings, ours: str) -> Iterator[Alert]:
    needed = _needed_by(settings)
    token = "{{ $labels.credential }}{{ with $labels.audience }}, audience {{ . }}{{ end }}"  # noqa: S105 - a template
    yield Alert(
        name="PayproxyTokenMintFails",
        severity="warning",
        expr=f"payproxy_token_last_mint_successful == 0 {ours}",
        seconds=600,
        summary="A token endpoint has given no token for 10 minutes",
        description=f"{_INSTANCE} gets no new token of {token}. {needed}",
    )
    expiry = "payproxy_token_expiry_timestamp_seconds"
    yield Alert(
        name="PayproxyTokenRunsOut",
        severity="critical",
        expr=f"({expiry} - time() < 60\n  or payproxy_token_last_mint_successful == 0 "
        f"unless on (job, instance, credential, audience) {expiry})\n{ours}",
        seconds=60,
        summary="A token ends within a minute, or has ended, and no new one came",
        description=f"{_INSTANCE} has no token of {token} that is valid for another minute. {needed}",
    )
    if settings.state.shared and any(one.share_tokens for one in settings.credentials.values()):
        yield Alert(
            name="PayproxyTokenSharingLost",
            severity="warning",
            expr=f"payproxy_token_sharing_available == 0 {ours}",
            seconds=600,
            summary="An instance has not shared tokens with the others for 10 minutes",
            description=f"{_INSTANCE} mints its own tokens instead of sharing those of the other instances. Requests "
            "are served.",
        )
    yield Alert(
        name="PayproxyClockSkew",
        severity="warning",
        expr=f"abs(payproxy_clock_skew_seconds) > 30 {ours}",
        seconds=600,
        summary="This machine's clock and the token endpoint's differ by more than 30 s",
        description=f"{_INSTANCE}: the token endpoint of {{{{ $labels.credential }}}} is {_DURATION} away.",
    )


def _of_certificates(settings: Settings, ours: str) -> Iterator[Alert]:
    servers = (settings.server.certificate_file, settings.admin.certificate_file)
    upstreams = (one.client_certificate_file for one in settings.upstreams.values())
    credentials = (one.certificate_file or one.client_certificate_file for one in settings.credentials.values())
    if not any((*servers, *upstreams, *credentials)):
        return
    limits: tuple[tuple[Severity, int], ...] = (("critical", 3), ("warning", 30))
    for severity, days in limits:
        yield Alert(
            name="PayproxyCertificateExpires",
            severity=severity,
            expr=f"payproxy_certificate_expiry_timestamp_seconds - time() < {days} * {_DAY_SECONDS} {ours}",
            summary=f"A certificate ends within {days} days",
            description=f"{_INSTANCE}: the certificate of {{{{ $labels.name }}}} (use {{{{ $labels.use }}}}) ends in "
            f"{_DURATION}.",
        )


def _of_the_log(settings: Settings, ours: str) -> Iterator[Alert]:
    log = settings.request_log
    if not (log.stdout or log.file or log.database or log.database_file):
        return
    # A tenth of a small spool, so that there is time before requests are refused.
    behind = min(_BACKLOG_RECORDS, max(log.spool_bytes // 10 // _RECORD_BYTES, 1))
    yield Alert(
        name="PayproxyLogBehind",
        severity="warning",
        expr=f"payproxy_journal_backlog_records > {behind} {ours}",
        seconds=600,
        summary=f"A sink of the request log is more than {behind} records behind",
        description=f"{_INSTANCE} keeps {_COUNT} records that a sink has not taken.",
    )
    yield Alert(
        name="PayproxyLogSinkAway",
        severity="warning",
        expr=f"payproxy_log_sink_available == 0 {ours}",
        seconds=600,
        summary="A sink of the request log takes no records",
        description=f"{_INSTANCE}: the sink {{{{ $labels.sink }}}} has taken no records for 10 minutes. They are kept.",
    )
    yield Alert(
        name="PayproxyLogDropped",
        severity="warning",
        expr=f"sum by (job, instance, sink) (increase(payproxy_log_dropped_total[15m])) > 0 {ours}",
        summary="A sink of the request log has refused records for good",
        description=f"{_INSTANCE}: the sink {{{{ $labels.sink }}}} never got some {_COUNT} records of the last 15 "
        "minutes.",
    )
    yield Alert(
        name="PayproxyRecordsLost",
        severity="warning",
        expr=f"sum by (job, instance) (increase(payproxy_records_lost_total[15m])) > 0 {ours}",
        summary="Requests were served that have no record",
        description=f"{_INSTANCE}: some {_COUNT} records of the last 15 minutes are lost. The request log says why.",
    )


def _of_migrations(settings: Settings, ours: str) -> Iterator[Alert]:
    if not settings.migrations:
        return
    # Not delta(), whose two ends are the same after a raise that the guard soon took back.
    lowered = f"payproxy_migration_weight_ratio < max_over_time(payproxy_migration_weight_ratio[10m]) {ours}"
    # A change of one instance is one of all that share a state: one alert, not one for each.
    shared = settings.state.shared
    yield Alert(
        name="PayproxyMigrationRolledBack",
        severity="warning",
        expr=f"max by (migration) ({lowered})" if shared else lowered,
        summary="A migration went back to a lower weight",
        description="{{ $labels.migration }} has gone back to a share of {{ $value | humanizePercentage }} on the "
        f"modern side within 10 minutes{'' if shared else f', at {_INSTANCE}'}.",
    )
    yield Alert(
        name="PayproxyRetryPinsMany",
        severity="warning",
        expr=f"sum by (job, instance) (payproxy_migration_retry_pins) > {MOST_PINS * 3 // 4} {ours}",
        summary=f"There are more than {MOST_PINS * 3 // 4} retry pins",
        description=f"{_INSTANCE} has {_COUNT} retry pins. At {MOST_PINS} the oldest are dropped.",
    )


def _needed_by(settings: Settings) -> str:
    """Return a template that names the routes which need the credential of the label."""
    users: dict[str, list[str]] = {name: [] for name in settings.credentials}
    for route in settings.routes:
        moving = [one for one in settings.migrations.values() if route.name in one.routes]
        sides = {side.credential for one in moving for side in (one.legacy, one.modern)}
        for name, routes in users.items():
            if name in sides or (name == route.credential and not moving):
                routes.append(route.name)
    cases = (
        f'{{{{ if eq $labels.credential "{name}" }}}}Routes that need it: {", ".join(routes)}.{{{{ end }}}}'
        for name, routes in users.items()
        if routes
    )
    return "".join(cases)
