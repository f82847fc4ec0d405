"""The panels of the dashboard that fit a configuration: what each asks Prometheus, and how to read it."""

from typing import NamedTuple

from proxy.settings.model import Settings

# The variables of the dashboard as selectors; each rate is taken over Grafana's own window.
HERE = 'instance=~"$instance"'
_ROUTE = f'{HERE}, http_route=~"$route"'
_UNKNOWN = f'{_ROUTE}, sent_upstream="unknown"'
_WINDOW = "[$__rate_interval]"


class Panel(NamedTuple):
    """One panel: *queries* are pairs of PromQL and legend; *unit* is Grafana's name for it; *limit* draws a line."""

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    limit: float | None = None


def rows(settings: Settings) -> list[tuple[str, tuple[Panel, ...]]]:
    """Return the rows, by title, whose metrics exist with *settings*."""
    slowest = max((one.response_timeout for one in settings.upstreams.values()), default=None)
    found = [("Overview", _OVERVIEW), ("Latency", _latency(slowest)), ("Tokens", _TOKENS), ("Second sends", _REPLAYS)]
    if settings.migrations:
        found.append(("Migrations", _MIGRATIONS))
    return [*found, ("Request log", _LOG), ("Certificates", _CERTIFICATES), ("Processes", _PROCESSES)]


def _rate(by: str, metric: str, selector: str = HERE, call: str = "rate") -> str:
    return f"sum by ({by}) ({call}({metric}{{{selector}}}{_WINDOW}))"


def _quantiles(metric: str, selector: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Return median and 99th percentile of a histogram, for each value of the label *by*."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return tuple(
        (f"histogram_quantile({quantile}, {_rate(labels, f'{metric}_bucket', selector)})", f"{legend}{name}")
        for quantile, name in ((0.5, "median"), (0.99, "99th percentile"))
    )


_OVERVIEW = (
    Panel(
        "Ready",
        "Whether /readyz of each instance says that requests can be served.",
        "bool_yes_no",
        ((f"min by (instance) (payproxy_ready{{{HERE}}})", "{{instance}}"),),
        kind="stat",
    ),
    Panel(
        "Version",
        "Number of instances that run each version.",
        "short",
        ((f"count by (environment, version) (payproxy_build_info{{{HERE}}})", "{{environment}} {{version}}"),),
        kind="stat",
    ),
    Panel(
        "Outcome unknown",
        "Requests handed to the bank without an answer in the time shown; the bank knows what became of them.",
        "short",
        (
            (
                f"sum by (http_route) (increase(payproxy_exchanges_total{{{_UNKNOWN}}}[$__range]))",
                "{{http_route}}",
            ),
        ),
        kind="stat",
    ),
    Panel(
        "Requests",
        "Finished requests a second by route; a route without a name is none that the rules know.",
        "reqps",
        ((_rate("http_route", "payproxy_exchanges_total", _ROUTE), "{{http_route}}"),),
    ),
    Panel(
        "Answers by status",
        "Answers to callers a second by status, the bank's and payproxy's own.",
        "reqps",
        (
            (
                _rate("http_response_status_code", "http_server_request_duration_seconds_count", _ROUTE),
                "{{http_response_status_code}}",
            ),
        ),
    ),
    Panel(
        "Errors by code",
        "Answers a second that payproxy made itself; docs/errors.md explains each code.",
        "reqps",
        ((f"{_rate('code', 'payproxy_errors_total')} > 0", "{{code}}"),),
    ),
)


def _latency(slowest: float | None) -> tuple[Panel, ...]:
    return (
        Panel(
            "Whole request",
            "Seconds from a request's head to the end of its answer, as callers see it.",
            "s",
            _quantiles("http_server_request_duration_seconds", _ROUTE),
        ),
        Panel(
            "Bank",
            "Seconds until the head of the bank's answer, by host; the line is response_timeout.",
            "s",
            _quantiles("http_client_request_duration_seconds", HERE, "server_address"),
            limit=slowest,
        ),
        Panel(
            "Overhead",
            "Seconds of a request that were neither the caller's nor the bank's.",
            "s",
            _quantiles("payproxy_overhead_seconds", _ROUTE),
        ),
    )


_TOKENS = (
    Panel(
        "Token lifetime left",
        "Seconds until the access token in use ends; it is renewed before.",
        "s",
        (
            (
                f"min by (credential, audience) (payproxy_token_expiry_timestamp_seconds{{{HERE}}}) - time()",
                "{{credential}} {{audience}}",
            ),
        ),
    ),
    Panel(
        "Mints by outcome",
        "Calls of the token endpoints by what came of them.",
        "short",
        ((_rate("credential, outcome", "payproxy_token_mint_total", call="increase"), "{{credential}} {{outcome}}"),),
    ),
    Panel(
        "Last mint",
        "Whether the last call of the token endpoint gave a token.",
        "bool_yes_no",
        (
            (
                f"min by (credential, audience) (payproxy_token_last_mint_successful{{{HERE}}})",
                "{{credential}} {{audience}}",
            ),
        ),
        kind="stat",
    ),
    Panel(
        "Clock skew",
        "The token endpoint's clock minus this machine's, at the last mint.",
        "s",
        ((f"payproxy_clock_skew_seconds{{{HERE}}}", "{{instance}} {{credential}}"),),
    ),
)

_REPLAYS = (
    Panel(
        "Refused tokens by outcome",
        "Requests whose token the bank refused, by what came of the second send.",
        "short",
        ((_rate("credential, outcome", "payproxy_replays_total", call="increase"), "{{credential}} {{outcome}}"),),
    ),
)

_MIGRATIONS = (
    Panel(
        "Weight",
        "Share that is on the modern side; replicas that share a state have the same.",
        "percentunit",
        ((f"max by (migration) (payproxy_migration_weight_ratio{{{HERE}}})", "{{migration}}"),),
    ),
    Panel(
        "Requests by side",
        "Attempts a second on migrated routes by side.",
        "reqps",
        ((_rate("migration, side", "payproxy_migration_requests_total"), "{{migration}} {{side}}"),),
    ),
    Panel(
        "Outcomes by side",
        "What came of the attempts a second on migrated routes, by side.",
        "reqps",
        (
            (
                f"{_rate('migration, side, outcome', 'payproxy_migration_requests_total')} > 0",
                "{{migration}} {{side}} {{outcome}}",
            ),
        ),
    ),
    Panel(
        "Retry pins",
        "Requests whose retry has to go to the side of the first try.",
        "short",
        ((f"max by (migration) (payproxy_migration_retry_pins{{{HERE}}})", "{{migration}}"),),
    ),
)

_LOG = (
    Panel(
        "Backlog",
        "Records that the slowest sink has not taken yet.",
        "short",
        ((f"payproxy_journal_backlog_records{{{HERE}}}", "{{instance}}"),),
    ),
    Panel(
        "Sinks",
        "Whether each sink takes records.",
        "bool_yes_no",
        ((f"min by (sink) (payproxy_log_sink_available{{{HERE}}})", "{{sink}}"),),
        kind="stat",
    ),
    Panel(
        "Dropped records",
        "Records that a sink refused for good.",
        "short",
        ((_rate("sink", "payproxy_log_dropped_total", call="increase"), "{{sink}}"),),
    ),
    Panel(
        "Lost records",
        "Records that no sink has: what was to be written when its worker ended, or while the journal failed.",
        "short",
        ((_rate("instance", "payproxy_records_lost_total", call="increase"), "{{instance}}"),),
    ),
)

_CERTIFICATES = (
    Panel(
        "Certificate lifetime left",
        "Seconds until a certificate in use ends.",
        "s",
        (
            (
                f"min by (name, use) (payproxy_certificate_expiry_timestamp_seconds{{{HERE}}}) - time()",
                "{{name}} ({{use}})",
            ),
        ),
        kind="stat",
    ),
)

_PROCESSES = (
    Panel(
        "Requests in flight",
        "Requests of callers that each worker is serving.",
        "short",
        ((f"payproxy_requests_in_flight{{{HERE}}}", "{{instance}} worker {{worker}}"),),
    ),
    Panel(
        "Connections of callers",
        "Open connections of callers to each worker.",
        "short",
        ((f"payproxy_connections{{{HERE}}}", "{{instance}} worker {{worker}}"),),
    ),
    Panel(
        "CPU",
        "Seconds of CPU a second; without a worker's number it is the keeper.",
        "short",
        ((f"rate(process_cpu_seconds_total{{{HERE}}}{_WINDOW})", "{{instance}} {{worker}}"),),
    ),
    Panel(
        "Memory",
        "Resident memory of each process; without a worker's number it is the keeper.",
        "bytes",
        ((f"process_resident_memory_bytes{{{HERE}}}", "{{instance}} {{worker}}"),),
    ),
    Panel(
        "File descriptors in use",
        "Share of the limit of open files; at the limit new callers wait.",
        "percentunit",
        ((f"process_open_fds{{{HERE}}} / process_max_fds{{{HERE}}}", "{{instance}} {{worker}}"),),
    ),
    Panel(
        "Running since",
        "Seconds since each process was started.",
        "s",
        ((f"time() - process_start_time_seconds{{{HERE}}}", "{{instance}} {{worker}}"),),
    ),
)
