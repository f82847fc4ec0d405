"""Values that can't work are refused by helm, before anything is installed."""

import pytest

from tests.deploy.support import config, refusal, render


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("image.repository=", "repository"),
        ("image.digest=latest", "digest"),
        ("replicas=-1", "replicas"),
        ("replicas=three", "replicas"),
        ("replica=3", "replica"),
        ("image.name=payproxy", "image"),
        ("persistence.accessMode=ReadWriteMany", "accessMode"),
        ("persistence.size=10", "size"),
        ("service.port=70000", "port"),
        ("service.type=ExternalName", "type"),
        ("spread=Never", "spread"),
        ("userId=0", "userId"),
        ("preStopSleepSeconds=-5", "preStopSleepSeconds"),
        ("serviceMonitor.interval=15", "interval"),
        ("networkPolicy.bankCidrs={bank.example}", "bankCidrs"),
        ("secrets[0].secretName=payproxy-keys", "secrets"),
        ("secrets[0].name=keys,secrets[0].items[0].key=a,secrets[0].items[0].path=../a", "path"),
        ("secrets[0].name=keys,secrets[0].mountPath=keys", "mountPath"),
        ("configMaps[0].name=authorities,configMaps[0].restartOnChange=true", "configMaps"),
        ("extraEnv[0].name=PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET,extraEnv[0].value=secret", "extraEnv"),
        ("hostUsers=maybe", "hostUsers"),
    ],
)
def test_the_schema_refuses(option: str, words: str) -> None:
    """A misspelt or wrong value is named."""
    said = refusal("--set", option)

    assert "don't meet the specifications of the schema" in said
    assert words in said


_SHARED = '[request_log]\ndatabase_file = "database-url"\n\n[state]\nurl_file = "redis-url"\n'


@pytest.mark.parametrize(
    ("old", "new", "options", "words"),
    [
        ("0.0.0.0:8080", "127.0.0.1:8080", (), "server.listen"),
        ("0.0.0.0:8080", "[::1]:8080", (), "server.listen"),
        ("0.0.0.0:8080", "unix:/run/payproxy.sock", (), "server.listen"),
        ('listen = "0.0.0.0:8080"', "", (), "server.listen"),
        ("[server]\n", "[server]\nworkers = 0\n", (), "server.workers"),
        ("[server]\n", "[server\n", (), "not TOML"),
        ('environment = "mock"\n', 'environment = "mock"\ndata_directory = "data"\n', (), "data_directory"),
        (
            'environment = "mock"\n',
            'environment = "mock"\ndata_directory = "/var/lib/payproxy2"\n',
            (),
            "data_directory",
        ),
        ("[callers.erp]", '[request_log]\nfile = "/var/log/requests.jsonl"\n[callers.erp]', (), "request_log.file"),
        ("[callers.erp]", '[request_log]\nfile = "requests.jsonl"\n[callers.erp]', (), "request_log.file"),
        ("", "", ("serviceMonitor.enabled=true",), "admin.listen"),
        ("", "", ("replicas=2",), "[state]"),
        ("", "", ("autoscaling.enabled=true",), "[state]"),
        ("[callers.erp]", f"{_SHARED}\n[callers.erp]", (), "networkPolicy.egress"),
        (
            "[callers.erp]",
            '[state]\nurl_file = "redis-url"\n\n[callers.erp]',
            ("replicas=2", "networkPolicy.enabled=false"),
            "SQLite",
        ),
        (
            'environment = "mock"\n',
            f'environment = "mock"\ninstance = "one"\n{_SHARED}\n',
            ("replicas=2", "networkPolicy.enabled=false"),
            "instance",
        ),
    ],
)
def test_a_configuration_that_can_not_run_is_refused(old: str, new: str, options: tuple[str, ...], words: str) -> None:
    """In words that name the key and say what to write."""
    text = config()
    assert old in text
    arguments = [argument for option in options for argument in ("--set", option)]

    assert words in refusal("--set-literal", f"config={text.replace(old, new, 1)}", *arguments)


def test_an_empty_configuration_is_refused() -> None:
    """With the option that passes the file."""
    assert "--set-file config=payproxy.toml" in refusal("--set", "config=")


def test_several_replicas_need_no_database_if_they_write_to_stdout() -> None:
    """The platform collects the records then."""
    shared = '[request_log]\ndatabase = ""\n\n[state]\nurl_file = "redis-url"\n'
    text = config().replace("[callers.erp]", f"{shared}\n[callers.erp]")

    assert render("--set-literal", f"config={text}", "--set", "replicas=2", "--set", "networkPolicy.enabled=false")
