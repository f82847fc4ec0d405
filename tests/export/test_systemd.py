"""The systemd units: made for any configuration, and accepted by systemd's own tools."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import payproxy
from proxy.export.systemd import PRIVATE, PROGRAM
from proxy.keeper.exit_timer import CLOSING_SECONDS
from proxy.keeper.generations import KILL_AFTER_SECONDS
from proxy.keeper.graceful_stop import GRACE_SECONDS
from proxy.settings.schema import sections

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
# Settings that name files which hold no secret.
PUBLIC = {
    "ca_file",
    "certificate_file",
    "client_ca_file",
    "client_certificate_file",
    "assertion_certificate_files",
}
BEGIN = 'environment = "mock"\n[upstreams.u]\nurl = "https://api-mock.payments.jpmorgan.com"\n'
END = '[[routes]]\nname = "r"\npath = "/"\nupstream = "u"\ncredential = "c-1"\n'
CREDENTIAL = '[credentials.c-1]\nflavor = "basic"\nclient_id = "i"\nclient_secret_file = "c.secret"\n'


def _jwt(key: str) -> str:
    """Return a credential of flavor jwt with the key that the line *key* names; other sections may follow it."""
    entries = f'flavor = "jwt", client_id = "i", certificate_file = "c.pem", {key}'
    return f"credentials.j = {{{entries}}}\n"


def export(path: Path, *arguments: str) -> Result:
    """Run `payproxy export systemd` on the file *path*."""
    return CliRunner().invoke(payproxy, ["export", "systemd", "--config", str(path), *arguments])


def exported(folder: Path, text: str, *arguments: str) -> str:
    """Return the unit for the configuration *text*."""
    file = folder / "payproxy.toml"
    file.write_text(text)
    done = export(file, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(("name", "arguments"), [("payproxy.service", []), ("payproxy.socket", ["--socket"])])
def test_the_units_in_deploy_are_those_of_the_production_example(name: str, arguments: list[str]) -> None:
    """Nothing is written twice; placeholders in the example are reported, and no hindrance."""
    done = export(ROOT / "config" / "production.toml", *arguments)

    assert done.exit_code == 0
    assert done.stdout == (UNITS / name).read_text()
    assert "a placeholder was left in" in " ".join(done.stderr.split())


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_the_page_has_the_units_as_they_are(kind: str) -> None:
    """docs/operations.md shows what the command prints."""
    page = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(rf"<!-- systemd {kind} -->\n```ini\n(.*?)```", page, re.DOTALL)
    assert found is not None
    assert found[1] == (UNITS / f"payproxy.{kind}").read_text()


def test_every_setting_that_names_a_file_is_private_or_public() -> None:
    """A new one has to be put into one of the two: a private one is passed by LoadCredential."""
    names = {name for _, section in sections() for name in section.model_fields if re.search("_files?$", name)}
    assert names == PRIVATE | PUBLIC


def test_the_time_to_stop_is_what_serve_takes_at_most(tmp_path: Path) -> None:
    """exchange_timeout, and what the keeper adds to it."""
    unit = exported(tmp_path, BEGIN + "[server]\nexchange_timeout = 60\n" + CREDENTIAL + END)
    assert f"TimeoutStopSec={60 + GRACE_SECONDS + KILL_AFTER_SECONDS + CLOSING_SECONDS:.0f}\n" in unit


def test_each_private_file_is_a_credential_and_its_setting_names_the_copy(tmp_path: Path) -> None:
    """Beside the configuration or elsewhere; by a variable, or by a credential where the name fits no variable."""
    server = '[server]\ncertificate_file = "tls/server.p12"\nkey_file = "tls/server.p12"\n'
    state = (
        '[state]\nurl_file = "/etc/redis.url"\nencryption_key_files = ["/run/credentials/payproxy.service/a", "b"]\n'
    )
    unit = exported(tmp_path, BEGIN + server + state + CREDENTIAL + END)

    loaded = re.findall("^LoadCredential=(.*)$", unit, re.MULTILINE)
    assert sorted(loaded) == [
        "a:/etc/payproxy/a",
        "b:/etc/payproxy/b",
        "c.secret:/etc/payproxy/c.secret",
        "redis.url:/etc/redis.url",
        "server.p12:/etc/payproxy/tls/server.p12",
    ]
    assert re.findall("^Environment=(.*)$", unit, re.MULTILINE) == [
        "PAYPROXY_SERVER__CERTIFICATE_FILE=%d/server.p12",
        "PAYPROXY_SERVER__KEY_FILE=%d/server.p12",
        "PAYPROXY_STATE__URL_FILE=%d/redis.url",
        "PAYPROXY_STATE__ENCRYPTION_KEY_FILES=%d/a,%d/b",
    ]
    secret = "credentials__c-1__client_secret_file:/run/credentials/payproxy.service/c.secret"
    assert re.findall("^SetCredential=(.*)$", unit, re.MULTILINE) == [secret]


@pytest.mark.parametrize(
    ("named", "source"),
    [("../secrets/cs", "/etc/secrets/cs"), ("./a/../cs", "/etc/payproxy/cs"), ("/srv/x/../cs", "/srv/cs")],
)
def test_a_path_with_dots_is_one_that_systemd_takes(tmp_path: Path, named: str, source: str) -> None:
    """Systemd ignores a LoadCredential whose path has `..`, and the service would not find the secret."""
    unit = exported(tmp_path, BEGIN + CREDENTIAL.replace("c.secret", named) + END)

    assert f"LoadCredential=cs:{source}\n" in unit


def test_what_only_the_environment_has_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit would start without it; of a variable that the unit sets nothing is said, nor is a value."""
    monkeypatch.setenv("PAYPROXY_SERVER__WORKERS", "3")
    monkeypatch.setenv("PAYPROXY_CREDENTIALS__C__CLIENT_SECRET", "canary-of-the-environment")
    monkeypatch.setenv("PAYPROXY_REQUEST_LOG__BODY_HMAC_KEY_FILE", "/etc/hmac.key")
    file = tmp_path / "payproxy.toml"
    file.write_text(BEGIN + CREDENTIAL.replace("client_secret_file", "#").replace("c-1", "c") + END.replace("c-1", "c"))

    done = export(file)

    assert done.exit_code == 0
    said = " ".join(done.stderr.split())
    for name in ("SERVER__WORKERS", "CREDENTIALS__C__CLIENT_SECRET"):
        assert f"environment variable PAYPROXY_{name} is not in the output: write it in the configuration" in said
    assert "PAYPROXY_REQUEST_LOG__BODY_HMAC_KEY_FILE=%d/hmac.key" in done.stdout
    assert "HMAC_KEY_FILE is not in the output" not in said
    assert "canary" not in done.output


def test_two_files_of_one_name_are_two_credentials(tmp_path: Path) -> None:
    """Their directories tell them apart."""
    text = (
        CREDENTIAL.replace("c.secret", "one/secret")
        + END
        + CREDENTIAL.replace("c.secret", "two/secret").replace("c-1", "other")
    )
    unit = exported(tmp_path, BEGIN + text)
    assert "LoadCredential=one.secret:/etc/payproxy/one/secret\n" in unit
    assert "Environment=PAYPROXY_CREDENTIALS__OTHER__CLIENT_SECRET_FILE=%d/two.secret\n" in unit


def test_directories_are_those_that_systemd_makes(tmp_path: Path) -> None:
    """The state directory also where the file names none, a log's, and that of a Unix socket."""
    unit = exported(tmp_path, BEGIN + CREDENTIAL + END)
    assert "StateDirectory=payproxy\n" in unit
    assert "LogsDirectory" not in unit

    text = 'data_directory = "/var/lib/pay/one"\n' + BEGIN
    text += '[server]\nlisten = "unix:/run/pay/callers.sock"\n[request_log]\nfile = "/var/log/pay/r.jsonl"\n'
    unit = exported(tmp_path, text + CREDENTIAL + END)
    assert re.findall("^(?:State|Logs|Runtime)Directory=.*$", unit, re.MULTILINE) == [
        "StateDirectory=pay/one",
        "LogsDirectory=pay",
        "RuntimeDirectory=pay",
    ]
    socket = exported(tmp_path, text + CREDENTIAL + END, "--socket")
    assert "ListenStream=/run/pay/callers.sock\n" in socket
    assert "SocketMode=0660\n" in socket


def test_a_port_below_1024_has_its_capability(tmp_path: Path) -> None:
    """And no user namespace, in which it would be worth nothing; other ports have no capability at all."""
    low = exported(tmp_path, BEGIN + '[server]\nlisten = "127.0.0.1:443"\n' + CREDENTIAL + END)
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in low
    assert "PrivateUsers" not in low
    high = exported(tmp_path, BEGIN + CREDENTIAL + END)
    assert "CapabilityBoundingSet=\nPrivateUsers=yes\n" in high


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ('data_directory = "/srv/data"\n', [], "data_directory: /srv/data is no directory that systemd makes"),
        ('request_log.file = "/srv/r.jsonl"\n', [], "request_log.file: /srv is no directory that systemd makes"),
        ('request_log.database = "sqlite:/srv/r.db"\n', [], "request_log.database is outside of /var/lib/payproxy"),
        ('request_log.database = "sqlite:../r.db"\n', [], "request_log.database is outside of /var/lib/payproxy"),
        ('data_directory = "/var/lib/../x"\n', [], "data_directory: /var/x is no directory that systemd makes"),
        (
            'facade.signing_key_files = ["a b"]\n',
            [],
            "signing_key_files: '/etc/payproxy/a b' has a character with a meaning",
        ),
        ('server.listen = "localhost:80"\n', ["--socket"], "server.listen = 'localhost:80': a socket unit takes IP"),
        ('environment_ = "x"\n', [], "the configuration has"),
        (
            'upstreams.v = {url = "https://api.jpmorgan.com", ca_file = "/home/ops/ca.pem"}\n',
            [],
            "upstreams.v.ca_file: /home/ops/ca.pem is below /home, which ProtectHome=yes hides",
        ),
        (
            _jwt('signer_command = ["/root/sign", "k"]'),
            [],
            "credentials.j.signer_command: /root/sign is below /root, which ProtectHome=yes hides",
        ),
        (
            _jwt('private_key_uri = "pkcs11:token=t;object=o?module-path=/home/m.so"'),
            [],
            "credentials.j.private_key_uri: /home/m.so is below /home",
        ),
        (
            _jwt('private_key_uri = "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/etc/payproxy/pin"'),
            [],
            "name the file in credentials.j.private_key_pin_file instead",
        ),
    ],
)
def test_what_a_unit_can_not_provide_is_an_error(tmp_path: Path, text: str, arguments: list[str], words: str) -> None:
    """With the key and the way out, instead of a unit that does not start."""
    file = tmp_path / "payproxy.toml"
    file.write_text(text + BEGIN + CREDENTIAL + END)

    done = export(file, *arguments)

    assert done.exit_code == 78
    assert words in done.stderr
    assert done.stdout == ""


@pytest.fixture
def analyze() -> str:
    """The path of systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd-analyze here")
    return found


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path, analyze: str) -> None:
    """`systemd-analyze verify` is silent; the program, which it looks for, is not installed here."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, sys.executable))

    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        [analyze, "verify", *names], env=_alone(tmp_path), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert [Path(name).name for name in names] == ["payproxy.service", "payproxy.socket"]


def test_systemd_finds_a_fault_where_there_is_one(tmp_path: Path, analyze: str) -> None:
    """So that the silence above means something."""
    unit = tmp_path / "payproxy.service"
    unit.write_text((UNITS / unit.name).read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    done = subprocess.run([analyze, "verify", unit], env=_alone(tmp_path), capture_output=True, text=True, check=False)
    assert "Failed to parse sec value, ignoring: often" in done.stderr


def test_the_exposure_of_the_service_is_below_2(tmp_path: Path, analyze: str) -> None:
    """`systemd-analyze security`: 0 is closed, 10 is open to everything."""
    unit = UNITS / "payproxy.service"
    told = [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(told, env=_alone(tmp_path), capture_output=True, text=True, check=False)

    found = re.search(r"Overall exposure level for payproxy\.service: ([0-9.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 2.0
    assert done.returncode == 0


def _alone(folder: Path) -> dict[str, str]:
    """Return an environment in which units are looked for in *folder*, then where the system has its own."""
    return {"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def test_a_key_for_bodies_is_named_by_its_copy(tmp_path: Path) -> None:
    """No variable can change what a rule names, so the configuration names the unit's copy; else it is refused."""
    signed = 'signature = {{private_key_file = "{}", certificate_file = "signature.crt"}}\n'
    copy = "/run/credentials/payproxy.service/signature.key"
    unit = exported(tmp_path, BEGIN + CREDENTIAL + END + signed.format(copy))
    assert "LoadCredential=signature.key:/etc/payproxy/signature.key\n" in unit
    (tmp_path / "payproxy.toml").write_text(BEGIN + CREDENTIAL + END + signed.format("signature.key"))
    done = export(tmp_path / "payproxy.toml")

    assert done.exit_code != 0
    assert f"write {copy} in the configuration" in done.output
