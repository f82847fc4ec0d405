"""What is in deploy/ is what the command prints, what the page says is so, and Prometheus' own tool accepts it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.export.alert import duration
from proxy.export.alerts import alerts
from proxy.export.prometheus import RUNBOOK, prometheus
from proxy.settings.model import RequestLogSection, ServerSection, Settings, UpstreamSection
from proxy.settings.models import validated
from tests.cli.support import run
from tests.export.support import MIGRATING, ROOT, everything, example, promtool, with_redis

PRODUCTION = str(ROOT / "config/production.toml")


def names(settings: Settings) -> set[str]:
    """Return the names of the alerts for *settings*."""
    return {alert.name for alert in alerts(settings)}


@pytest.mark.parametrize(
    ("target", "file"), [("prometheus", "prometheus/payproxy-alerts.yaml"), ("grafana", "grafana/payproxy.json")]
)
def test_the_file_in_deploy_is_the_commands_output(target: str, file: str) -> None:
    """Nothing is written twice."""
    printed = run("export", target, "--config", PRODUCTION, cwd=ROOT).stdout
    assert (ROOT / "deploy" / file).read_text() == printed


@pytest.mark.parametrize("name", ["production", "adfs-migration", "client-testing", "mock", "demo"])
def test_the_rules_are_valid(tmp_path: Path, name: str) -> None:
    """For each example of a configuration."""
    (tmp_path / "rules.yaml").write_text(prometheus(example(name)))
    assert "SUCCESS" in promtool("check", "rules", str(tmp_path / "rules.yaml"))


@pytest.mark.parametrize(("target", "code"), [("systemd", 0), ("kubernetes", 1), ("prometheus", 0), ("grafana", 0)])
def test_a_missing_secret_is_no_hindrance(target: str, code: int) -> None:
    """It is reported; a pod needs it from a Secret, and does not work for the demo's listener on loopback alone."""
    done = run("export", target, "--config", ROOT / "config" / "demo.toml", cwd=ROOT)

    assert done.returncode == code, done.stderr
    assert "client_secret_basic needs a client secret" in " ".join(done.stderr.split())
    assert done.stdout
    assert ("--from-file=credentials__mock__client_secret=FILE" in done.stdout) == (target == "kubernetes")


def test_the_example_of_a_scrape_configuration_is_valid() -> None:
    """With the rules beside it."""
    assert "1 rule files found" in promtool("check", "config", str(ROOT / "deploy/prometheus/scrape.yaml"))


def test_the_page_has_the_table_of_the_alerts() -> None:
    """Each with the section to which runbook_url leads."""
    page = (ROOT / RUNBOOK).read_text()
    settings = everything()
    table = "\n".join(
        f"| [{one.name}](#{one.name.lower()}) | {one.severity} | {duration(one.seconds) if one.seconds else ''} "
        f"| {one.summary} |".replace("|  |", "| |")
        for one in alerts(settings)
    )
    assert table in page, f"docs/operations.md: the table of alerts must be\n{table}"
    anchors = {f"docs/operations.md#{title.lower()}" for title in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    urls = re.findall(r"runbook_url: (\S+)", prometheus(settings))
    assert len(urls) == len(alerts(settings))
    assert set(urls) == {url for url in anchors if "payproxy" in url}


def test_the_runbook_may_be_elsewhere() -> None:
    """Where the pages are published, a page may be one click away."""
    text = prometheus(example("production"), runbook="https://wiki.example/payproxy")
    assert "runbook_url: https://wiki.example/payproxy#payproxydown\n" in text


def test_only_alerts_whose_metrics_exist() -> None:
    """Without migrations, certificates or sinks none of theirs."""
    more = {"PayproxyTokenSharingLost", "PayproxySignaturesFail"}
    assert names(everything()) - names(example(MIGRATING)) == more
    assert names(example(MIGRATING)) - names(example("production")) == {
        "PayproxyMigrationRolledBack",
        "PayproxyRetryPinsMany",
    }
    alone = with_redis(MIGRATING)
    alone.credentials.update({name: replace(one, share_tokens=False) for name, one in alone.credentials.items()})
    assert names(alone) == names(example(MIGRATING))
    silent = validated(RequestLogSection, {"stdout": False, "database": ""})
    assert names(example("production")) - names(example("demo", request_log=silent)) == {
        "PayproxyCertificateExpires",
        "PayproxyLogBehind",
        "PayproxyLogSinkAway",
        "PayproxyLogDropped",
        "PayproxyRecordsLost",
    }


def test_thresholds_fit_the_configuration() -> None:
    """A slow bank needs a longer window, a long exchange a longer wait, a small spool an earlier alert."""
    settings = example(
        "production",
        server=ServerSection(exchange_timeout=900),
        upstreams={"payments": UpstreamSection(url="https://api.payments.jpmorgan.com", response_timeout=400)},
        request_log=RequestLogSection(spool_bytes=1024 * 1024),
    )
    by_name = {(one.name, one.severity): one for one in alerts(settings)}
    assert by_name["PayproxyNotReady", "warning"].seconds == 960
    assert "[14m]" in by_name["PayproxyUpstreamFails", "warning"].expr
    assert "payproxy_journal_backlog_records > 51 " in by_name["PayproxyLogBehind", "warning"].expr


def test_a_description_names_the_routes_that_need_a_credential() -> None:
    """The one who is paged sees what stands still."""
    text = prometheus(example("production"))
    assert (
        '{{ if eq $labels.credential "login" }}Routes that need it: payments, payment-status, validations.{{ end }}'
        in text
    )


def test_without_an_admin_listener_there_is_nothing_to_scrape(tmp_path: Path) -> None:
    """The error says what to set."""
    text = (ROOT / "config/client-testing.toml").read_text() + '\n[admin]\nlisten = ""\n'
    (tmp_path / "payproxy.toml").write_text(text)
    done = run("export", "prometheus", "--config", "payproxy.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "set admin.listen" in done.stderr


def test_a_configuration_with_faults_is_refused(tmp_path: Path) -> None:
    """Placeholders may be left; anything else may not."""
    (tmp_path / "payproxy.toml").write_text((ROOT / "config/client-testing.toml").read_text() + "\n[nonsense]\n")
    done = run("export", "grafana", "--config", "payproxy.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
