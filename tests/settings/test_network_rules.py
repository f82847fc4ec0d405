from pathlib import Path

import pytest

from proxy.settings.findings import Severity
from proxy.settings.network_rules import is_test_host
from tests.settings.support import CALLER, load_text, one_finding, plain

LOCAL = '"127.0.0.1:8080"'
ADMIN = '"127.0.0.1:9901"'
BANK = "https://api.payments.jpmorgan.com"
HASH = "$scrypt$ln=15,r=8,p=1$c2FsdHNhbHRzYWx0$" + "aGFzaGhhc2g" * 4
TLS = "certificate_file = 'c'\nkey_file = 'k'\n"


@pytest.mark.parametrize(
    "text",
    [
        plain((LOCAL, f'"0.0.0.0:8080"\n{TLS}')),
        plain(
            ("client-testing", "production"), ("[[routes]]", "token_url = 'https://login.jpmorgan.com/x'\n[[routes]]")
        ),
    ],
)
def test_an_open_listener(tmp_path: Path, text: str) -> None:
    """Without callers nobody unknown gets in: over a network, or in production from anywhere."""
    finding = one_finding(load_text(tmp_path, text))

    assert (finding.key, finding.severity) == ("server.allow_anonymous", Severity.ERROR)
    assert load_text(tmp_path, text + CALLER).findings == ()
    assert load_text(tmp_path, text.replace("[server]", "[server]\nallow_anonymous = true")).findings == ()


def test_a_socket_is_not_open(tmp_path: Path) -> None:
    """A Unix socket is guarded by its directory."""
    assert load_text(tmp_path, plain((LOCAL, '"unix:/run/payproxy.sock"'))).findings == ()


def test_mutual_tls_needs_tls(tmp_path: Path) -> None:
    """A CA for callers' certificates says nothing on a listener without TLS."""
    finding = one_finding(load_text(tmp_path, plain(("[server]", '[server]\nclient_ca_file = "ca"'))))

    assert finding.key == "server.client_ca_file"


def test_the_console_over_a_network(tmp_path: Path) -> None:
    """It needs operators and TLS; each that is missing is named with what gives it."""
    findings = load_text(tmp_path, plain((ADMIN, '"0.0.0.0:9901"'))).errors
    assert [finding.key for finding in findings] == ["admin.console", "admin.console"]
    assert {finding.what.rpartition(" ")[2] for finding in findings} == {"operators", "certificate_file"}
    assert any("payproxy admin hash-password" in finding.fix for finding in findings)
    assert all("console = false" in finding.fix for finding in findings)
    [finding] = load_text(tmp_path, plain((ADMIN, f'"0.0.0.0:9901"\n{TLS}'))).errors
    assert "needs operators" in finding.what
    safe = plain((ADMIN, f'"0.0.0.0:9901"\noperators = {{ alice = "{HASH}" }}\n{TLS}'))
    assert load_text(tmp_path, safe).findings == ()
    assert load_text(tmp_path, plain((ADMIN, '"0.0.0.0:9901"\nconsole = false'))).errors == ()
    assert load_text(tmp_path, plain((ADMIN, '""'))).findings == ()


@pytest.mark.parametrize("password", ["correct horse", "hunter2", "$scrypt$ln=15,r=8,p=1$", "ab" * 32])
def test_a_plain_password_of_an_operator(tmp_path: Path, password: str) -> None:
    """What is no scrypt hash may be a password, which would stand in every copy of the file."""
    finding = one_finding(load_text(tmp_path, plain(("[admin]", f'[admin]\noperators = {{ alice = "{password}" }}'))))

    assert (finding.key, finding.severity) == ("admin.operators.alice", Severity.ERROR)
    assert "perhaps a password" in finding.what
    assert "payproxy admin hash-password" in finding.fix
    assert password not in finding.what


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", True),
        (f'api_key_sha256 = ["{"ab" * 32}"]', False),
    ],
)
def test_callers_by_network_without_hosts(tmp_path: Path, more: str, warned: bool) -> None:  # noqa: FBT001 - a column
    """A web page reaches the proxy by a name of its own and reads with the token of whoever looks at it."""
    caller = f'\n[callers.erp]\nnetworks = ["10.20.0.0/16"]\n{more}\n'
    findings = load_text(tmp_path, plain(more=caller)).findings
    named = load_text(tmp_path, plain(("[server]", '[server]\nhosts = ["payproxy.corp"]'), more=caller))

    assert [(one.key, one.severity) for one in findings] == [("server.hosts", Severity.WARNING)] * warned
    assert named.findings == ()


@pytest.mark.parametrize("listener", ["server", "admin"])
def test_a_listener_without_tls(tmp_path: Path, listener: str) -> None:
    """Plain HTTP over a network is a warning: something in front may speak TLS."""
    old = LOCAL if listener == "server" else ADMIN
    changed = old.replace("127.0.0.1", "10.0.0.1") + ("\nconsole = false" if listener == "admin" else "")
    finding = one_finding(load_text(tmp_path, plain((old, changed), more=CALLER)))

    assert (finding.key, finding.severity) == (f"{listener}.listen", Severity.WARNING)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://api.payments.jpmorgan.com", "http is for loopback only"),
        ("https://api.example.com", "not one of the bank's"),
        ("https://jpmorgan.com.example", "not one of the bank's"),
        ("https://notjpmorgan.com", "not one of the bank's"),
        ("https://10.0.0.1", "not one of the bank's"),
        ("http://127.0.0.1:8090", ""),
        ("http://localhost:8090/bank", ""),
        ("https://a.jpmorganchase.com", ""),
        ("https://a.jpmchase.com", ""),
        ("https://a.jpmchase.net", ""),
    ],
)
def test_hosts(tmp_path: Path, url: str, what: str) -> None:
    """A token goes to the bank, encrypted, or stays on this machine; the same holds for token endpoints."""
    upstream = load_text(tmp_path, plain((BANK, url))).findings
    endpoint = load_text(tmp_path, plain(("[[routes]]", f'token_url = "{url}"\n[[routes]]'))).findings

    assert [what in one.what for one in upstream] == [True] * bool(what)
    assert [what in one.what for one in endpoint] == [True] * bool(what)
    assert {one.key for one in upstream} <= {"upstreams.payments.url"}
    assert {one.key for one in endpoint} <= {"credentials.login.token_url"}


def test_foreign_hosts_on_purpose(tmp_path: Path) -> None:
    """foreign_host allows another host, not http."""
    changed = (f'url = "{BANK}"', 'url = "https://gateway.example"\nforeign_host = true')
    assert load_text(tmp_path, plain(changed)).findings == ()

    http = (changed[0], changed[1].replace("https", "http"))
    assert one_finding(load_text(tmp_path, plain(http))).what == "http is for loopback only"


def test_a_test_host_in_production(tmp_path: Path) -> None:
    """Production that sends to a test system is a warning; so is the Mock token endpoint, whose name hides it."""
    text = plain(("client-testing", "production"), (BANK, "https://api-mock.payments.jpmorgan.com"), more=CALLER)
    findings = load_text(tmp_path, text).findings

    assert [one.key for one in findings] == ["upstreams.payments.url", "credentials.login.token_url"]
    assert {one.severity for one in findings} == {Severity.WARNING}


@pytest.mark.parametrize(
    "host",
    [
        "api-mock.payments.jpmorgan.com",
        "api-ms-test.payments.jpmorgan.com",
        "api.reports.test.jpmorgan.com",
        "cat-api.merchant.jpmorgan.com",
        "api-tokens-cat.payments.jpmorgan.com",
        "merchant-api.checkout-cat.merchant.jpmorgan.com",
        "mns-aws-cat.jpmchase.com",
        "apigatewaycat.jpmorgan.com",
        "apigatewayqaf.jpmorgan.com",
        "openbankinguat.jpmorgan.com",
        "idauatg2.jpmorganchase.com",
        "api-sandbox.payments.jpmorgan.com",
        "id.payments.jpmorgan.com",
        "profiles-api-test.merchant.jpmorgan.com",
        "api-mtls-pci-uat.jpmorgan.com",
    ],
)
def test_the_banks_test_hosts(host: str) -> None:
    """Every test host that the bank's pages name is recognised."""
    assert is_test_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "api.payments.jpmorgan.com",
        "api-ms.payments.jpmorgan.com",
        "api.merchant.jpmorgan.com",
        "apigateway.jpmorgan.com",
        "openbanking.jpmorgan.com",
        "login.jpmorgan.com",
        "idag2.jpmorganchase.com",
        "api.reports-files.jpmorgan.com",
        "certificates.evaluation.jpmorgan.com",
        "authenticate.jpmorgan.com",
    ],
)
def test_the_banks_production_hosts(host: str) -> None:
    """No production host is taken for a test host."""
    assert not is_test_host(host)


@pytest.mark.parametrize(("seconds", "warned"), [(30, True), (70, True), (71, False), (90, False)])
def test_giving_up_too_early(tmp_path: Path, seconds: int, warned: bool) -> None:  # noqa: FBT001 - a table's column
    """The bank ends a transaction after 70 seconds; not to wait that long is a warning."""
    findings = load_text(tmp_path, plain(("url =", f"response_timeout = {seconds}\nurl ="))).findings

    assert [(one.key, one.severity) for one in findings] == [
        ("upstreams.payments.response_timeout", Severity.WARNING),
    ] * warned


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("[server]", "[server]\ncertificate_file = 'c'", "server.key_file"),
        ("[server]", "[server]\nkey_file = 'k'", "server.certificate_file"),
        ("[admin]", "[admin]\nkey_file = 'k'", "admin.certificate_file"),
        ("url =", "client_key_file = 'k'\nurl =", "upstreams.payments.client_certificate_file"),
        ("flavor", "client_certificate_file = 'c'\nflavor", "credentials.login.client_key_file"),
    ],
)
def test_half_a_pair(tmp_path: Path, old: str, new: str, key: str) -> None:
    """A certificate without its key, or a key without its certificate, is an error."""
    finding = one_finding(load_text(tmp_path, plain((old, new))))

    assert finding.key == key
    assert finding.what.startswith("is missing beside ")
