import pytest

from proxy.records.sinks.otlp_target import Signal, TargetUnusable, targets

BASE = "OTEL_EXPORTER_OTLP"


def test_without_an_endpoint_there_is_none() -> None:
    """Also when other variables are set."""
    assert targets({}) == ()
    assert targets({f"{BASE}_HEADERS": "a=b", f"{BASE}_ENDPOINT": ""}) == ()


@pytest.mark.parametrize("base", ["http://collector:4318", "http://collector:4318/"])
def test_the_general_endpoint_is_a_base(base: str) -> None:
    """Logs and traces have their paths below it."""
    assert [(one.signal, one.url) for one in targets({f"{BASE}_ENDPOINT": base})] == [
        (Signal.LOGS, "http://collector:4318/v1/logs"),
        (Signal.TRACES, "http://collector:4318/v1/traces"),
    ]


def test_a_signals_own_variables_go_first() -> None:
    """The URL is taken as it is; headers and timeout too."""
    logs, traces = targets(
        {
            f"{BASE}_ENDPOINT": "https://one/base",
            f"{BASE}_HEADERS": "authorization=Bearer%20secret, x-tenant=7",
            f"{BASE}_TIMEOUT": "2500",
            f"{BASE}_LOGS_ENDPOINT": "https://two/in",
            f"{BASE}_LOGS_HEADERS": "api-key=other",
            f"{BASE}_LOGS_TIMEOUT": "100",
        }
    )

    assert (logs.url, logs.timeout) == ("https://two/in", 0.1)
    assert [(name, value.reveal()) for name, value in logs.headers] == [("api-key", "other")]
    assert (traces.url, traces.timeout) == ("https://one/base/v1/traces", 2.5)
    assert [(name, value.reveal()) for name, value in traces.headers] == [
        ("authorization", "Bearer secret"),
        ("x-tenant", "7"),
    ]


def test_one_signal_alone() -> None:
    """Only what has an endpoint is sent."""
    [only] = targets({f"{BASE}_TRACES_ENDPOINT": "http://c/v1/traces"})

    assert (only.signal, only.timeout, only.headers) == (Signal.TRACES, 10.0, ())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENDPOINT", "collector:4318"),
        ("ENDPOINT", "grpc://secret-host"),
        ("ENDPOINT", "http://user:secret@host"),
        ("ENDPOINT", "http://[secret"),
        ("LOGS_ENDPOINT", "secret"),
        ("HEADERS", "secret"),
        ("HEADERS", "a=secret%0d%0ab"),
        ("LOGS_HEADERS", "a=s%C3%A4cret"),
        ("TIMEOUT", "1.5 secret"),
        ("LOGS_TIMEOUT", "0"),
    ],
)
def test_what_can_not_be_used_is_named_and_not_quoted(variable: str, value: str) -> None:
    """A header is a secret, and a URL may have one."""
    environ = {f"{BASE}_ENDPOINT": "http://collector:4318", f"{BASE}_{variable}": value}

    with pytest.raises(TargetUnusable) as caught:
        targets(environ)

    assert f"{BASE}_{variable}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_headers_show_themselves_nowhere() -> None:
    """Not in a repr either."""
    found = targets({f"{BASE}_ENDPOINT": "http://c", f"{BASE}_HEADERS": "authorization=hidden"})

    assert "hidden" not in repr(found)
