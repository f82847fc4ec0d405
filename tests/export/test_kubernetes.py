"""`payproxy export kubernetes`: the values are what the chart takes, and fit the configuration."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.serving import make_pair
from tests.cli.support import run
from tests.deploy.pod import Pod
from tests.deploy.support import CHART, ROOT, container, helm, only, pod

SECRETS = {
    "keys/redis-url": "rediss://payproxy:redis-password@redis.stores.svc:6380/0",
    "database-url": "postgresql://payproxy:database-password@10.1.2.3:5433/payproxy?sslmode=verify-full",
    "keys/state.key": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "mock.secret": "the-secret-of-the-mock-client",
}
CONFIGURATION = """\
environment = "client-testing"

[server]
listen = "0.0.0.0:8443"
exchange_timeout = 120

[admin]
listen = "0.0.0.0:9901"
console = false

[upstreams.payments]
url = "https://api-ms-test.payments.jpmorgan.com"

[upstreams.reports]
url = "https://api.reports.test.jpmorgan.com"
egress_proxy = "http://proxy.corp:3128"

[credentials.login]
flavor = "jwt"
client_id = "client"
private_key_file = "oauth.key"
certificate_file = "oauth.crt"

[credentials.mock]
flavor = "basic"
client_id = "client"
client_secret_file = "mock.secret"

[[routes]]
name = "reports"
path = "/reports"
upstream = "reports"
credential = "mock"

[[routes]]
name = "payments"
path = "/"
upstream = "payments"
credential = "login"
audience = "jpm:uri:prod:payments"

[callers.erp]
api_key_sha256 = ["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"]

[request_log]
database_file = "database-url"

[state]
url_file = "keys/redis-url"
encryption_key_files = ["keys/state.key"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with payproxy.toml and all files that it names; a pod's user may enter it."""
    place = Path(tempfile.mkdtemp(prefix="payproxy-export-"))
    place.chmod(0o755)
    (place / "keys").mkdir()
    make_pair(place)
    for name, text in SECRETS.items():
        (place / name).touch(mode=0o600)
        (place / name).write_text(text)
    (place / "payproxy.toml").write_text(CONFIGURATION)
    yield place
    shutil.rmtree(place)


def exported(folder: Path, *, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    done = run("export", "kubernetes", cwd=folder, env=env)
    assert done.returncode == code, done.stderr
    return done


def rendered(folder: Path, values: str, *options: str) -> list[dict[str, Any]]:
    """Return what the chart makes of the exported values."""
    (folder / "values.yaml").write_text(values)
    image = ("--set", "image.repository=registry.example/payproxy")
    done = helm("template", "pay", CHART, "-f", folder / "values.yaml", *image, *options)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def created(printed: str) -> dict[str, dict[str, str]]:
    """Return the Secrets that the printed kubectl lines would make, by name."""
    secrets = {}
    for line in re.findall(r"^#   (kubectl create secret generic .*)$", printed, re.MULTILINE):
        _, _, _, _, name, *options = shlex.split(line)
        pairs = [option.removeprefix("--from-file=").split("=", 1) for option in options]
        secrets[name] = {key: Path(file).read_text() for key, file in pairs}
    return secrets


def test_the_chart_takes_the_values(folder: Path) -> None:
    """Ports, time to stop and replicas are the configuration's, and the pod has the file as it was."""
    manifests = rendered(folder, exported(folder).stdout)

    assert only(manifests, "ConfigMap")["data"]["payproxy.toml"] == CONFIGURATION
    assert only(manifests, "StatefulSet")["spec"]["replicas"] == 2
    assert pod(manifests)["terminationGracePeriodSeconds"] == 150
    assert {one["containerPort"] for one in container(manifests)["ports"]} == {8443, 9901}


def test_the_policy_names_where_the_configuration_connects_to(folder: Path) -> None:
    """The bank, the egress proxy, and the stores by what the files with their URLs say."""
    _, bank, *others = only(rendered(folder, exported(folder).stdout), "NetworkPolicy")["spec"]["egress"]

    assert bank["ports"] == [{"protocol": "TCP", "port": 443}]
    by_port = {rule["ports"][0]["port"]: rule.get("to") for rule in others}
    assert by_port == {
        3128: None,
        6380: [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "stores"}}}],
        5433: [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
    }


def test_no_secret_is_printed(folder: Path) -> None:
    """Neither one from a file nor one from the environment; the latter is named, to be put in a Secret."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace('client_secret_file = "mock.secret"\n', ""))
    done = exported(folder, PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET="a-secret-of-the-environment")

    for secret in (*SECRETS.values(), "redis-password", "database-password", "a-secret-of-the-environment", "BEGIN"):
        assert secret not in done.stdout + done.stderr
    assert "--from-file=credentials__mock__client_secret=FILE" in done.stdout
    assert "PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET" in done.stderr
    manifests = rendered(folder, done.stdout)
    assert "/run/secrets" in [mount["mountPath"] for mount in container(manifests)["volumeMounts"]]


def test_a_pod_with_these_values_and_secrets_finds_every_file(folder: Path) -> None:
    """`check` as the pod's user, on the volumes that the printed lines and the chart make, finds no error."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a process as the pod's user")
    printed = exported(folder).stdout
    place = Pod(folder / "pod", rendered(folder, printed), created(printed))

    checked = place.run("check")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_files_elsewhere_are_mounted_where_they_are_named(folder: Path) -> None:
    """Such as systemd's credentials; a folder of the image can't be mounted over."""
    text = CONFIGURATION.replace('"oauth.key"', '"/run/credentials/payproxy.service/oauth.key"')
    (folder / "payproxy.toml").write_text(text)
    manifests = rendered(folder, exported(folder).stdout)
    assert "/run/credentials/payproxy.service" in [one["mountPath"] for one in container(manifests)["volumeMounts"]]

    (folder / "payproxy.toml").write_text(CONFIGURATION.replace('"oauth.key"', '"/etc/ssl/private/oauth.key"'))
    assert "files in /etc/ssl/private would hide the image's" in exported(folder, code=1).stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.0.0.0:8443", "127.0.0.1:8443", "server.listen"),
        ("[server]", "[server]\nworkers = 0", "server.workers"),
        ('environment = "client-testing"', 'environment = "client-testing"\ninstance = "a"', "instance"),
        ('environment = "client-testing"', 'environment = "client-testing"\ndata_directory = "data"', "data_directory"),
        ("[request_log]", '[request_log]\nfile = "requests.jsonl"', "request_log.file"),
    ],
)
def test_what_does_not_work_in_a_pod_is_said_first(folder: Path, old: str, new: str, words: str) -> None:
    """On both streams, with exit code 1; the chart would refuse it too."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace(old, new, 1))
    done = exported(folder, code=1)

    assert f"# CHANGE FIRST: {words}" in done.stdout
    assert f"does not work in a pod: {words}" in done.stderr
    (folder / "values.yaml").write_text(done.stdout)
    refused = helm("template", "pay", CHART, "-f", folder / "values.yaml", "--set", "image.repository=a")
    assert refused.returncode != 0
    assert words in refused.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'database_file = "database-url"',
            'database = "sqlite:/srv/log/requests.db"',
            "request_log.database is on the read-only file system; name a file without a directory",
        ),
        (
            'private_key_file = "oauth.key"',
            'signer_command = ["/opt/vault/sign", "oauth"]',
            "credentials.login.signer_command: /opt/vault/sign is not in payproxy's image",
        ),
        (
            'private_key_file = "oauth.key"',
            'private_key_uri = "pkcs11:token=t;object=o?module-path=/usr/lib/hsm.so"',
            "credentials.login.private_key_uri: /usr/lib/hsm.so is not in payproxy's image",
        ),
        (
            'private_key_file = "oauth.key"',
            'private_key_uri = "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/etc/payproxy/pin"',
            "name it in credentials.login.private_key_pin_file",
        ),
        ('"mock.secret"', '"../../mock.secret"', "files in / would hide the image's"),
    ],
)
def test_what_a_pod_does_not_reach_is_said(folder: Path, old: str, new: str, words: str) -> None:
    """Files that are neither on the volume, nor in the image, nor in a Secret."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace(old, new, 1))

    done = exported(folder, code=1)

    assert words in " ".join(done.stderr.split())
    assert words in done.stdout


@pytest.mark.parametrize("database", ["sqlite:other.db", "sqlite:/var/lib/payproxy/other.db"])
def test_a_database_on_the_volume_works(folder: Path, database: str) -> None:
    """With or without its directory."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace('_file = "database-url"', f' = "{database}"'))

    assert "request_log.database" not in exported(folder).stderr


def test_a_path_with_dots_is_where_the_pod_looks_for_it(folder: Path) -> None:
    """Helm and Kubernetes refuse `..` in the items of a Secret; /etc/payproxy/../secrets is /etc/secrets."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace('"mock.secret"', '"../secrets/cs"'))

    printed = exported(folder).stdout

    [found] = [one for one in yaml.safe_load(printed)["secrets"] if "mock" in one["name"]]
    assert found["mountPath"] == "/etc/secrets"
    assert found["items"] == [{"key": "cs", "path": "cs"}]
    assert "/etc/secrets" in [one["mountPath"] for one in container(rendered(folder, printed))["volumeMounts"]]


@pytest.mark.parametrize("section", ["state", "request_log"])
def test_one_replica_where_several_would_not_share(folder: Path, section: str) -> None:
    """Without [state], or with SQLite, there is one, and the line before says what several need."""
    text = re.sub(rf"\[{section}\]\n(.+\n)+", "", CONFIGURATION)
    (folder / "payproxy.toml").write_text(text)
    printed = exported(folder).stdout

    assert yaml.safe_load(printed)["replicas"] == 1
    assert "# More than one needs [state] with a Redis" in printed


def test_an_example_with_placeholders_can_be_exported() -> None:
    """The placeholders are findings on stderr."""
    done = run("export", "kubernetes", "--config", ROOT / "config" / "production.toml", cwd=ROOT)

    assert "a placeholder was left in" in done.stderr
    assert yaml.safe_load(done.stdout)["secrets"][1]["name"] == "payproxy-credential-login"


def test_a_broken_configuration_is_not_exported(folder: Path) -> None:
    """Nothing is printed but the findings."""
    (folder / "payproxy.toml").write_text(CONFIGURATION.replace("listen", "lissen", 1))
    done = exported(folder, code=78)

    assert not done.stdout
