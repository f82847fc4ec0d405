import json
import os
from pathlib import Path

import pytest

from proxy.settings.findings import Severity
from proxy.settings.load import load
from proxy.settings.toml_text import MAX_FILE_BYTES
from proxy.settings.values import masked
from tests.settings.support import CALLER, PLAIN, load_text, one_finding, plain


def test_a_plain_configuration(tmp_path: Path) -> None:
    """Nothing is found, paths are absolute, presets are applied, and every value knows its source."""
    loaded = load_text(tmp_path, PLAIN)

    assert loaded.findings == ()
    assert loaded.path == tmp_path / "payproxy.toml"
    assert loaded.settings is not None
    assert loaded.settings.data_directory == str(tmp_path / "payproxy-data")
    credential = loaded.settings.credentials["login"]
    assert credential.client_secret_file == str(tmp_path / "secret")
    assert credential.auth_method == "client_secret_basic"
    assert loaded.sources["credentials.login.client_id"] == "payproxy.toml:14"
    assert loaded.sources["credentials.login.auth_method"] == "preset of flavor basic"
    assert loaded.sources["credentials.login.assertion_audience"] == "token_url"
    assert loaded.sources["routes.0.path"] == "payproxy.toml:19"
    assert loaded.sources["server.workers"] == loaded.sources["data_directory"] == "default"


def test_a_value_in_an_inline_table_is_from_the_file(tmp_path: Path) -> None:
    """Where a key has no line of its own its source is the line of the table around it."""
    text = plain(('[server]\nlisten = "127.0.0.1:8080"\n', 'server = { listen = "127.0.0.1:8080" }\n'))
    loaded = load_text(tmp_path, text)

    assert loaded.findings == ()
    assert loaded.sources["server.listen"] == "payproxy.toml:3"


def test_no_file(tmp_path: Path) -> None:
    """Without a file the finding says where one is looked for."""
    finding = one_finding(load(None, environ={}, cwd=tmp_path, secrets_directory=tmp_path))

    assert finding.what == "there is no configuration file"
    assert "payproxy init" in finding.fix


@pytest.mark.parametrize("variable", [None, "PAYPROXY_CONFIG"])
def test_a_file_that_cannot_be_read(tmp_path: Path, variable: str | None) -> None:
    """A named file is not replaced by another one that is there by chance."""
    (tmp_path / "payproxy.toml").write_text(PLAIN)
    environ = {variable: "other.toml"} if variable else {}
    finding = one_finding(load(None if variable else Path("other.toml"), environ=environ, cwd=tmp_path))

    assert finding.file == "other.toml"
    assert finding.what == "the file can't be read: no such file or directory"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """It does not matter where the command is run."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x.toml").write_text(PLAIN)
    loaded = load(Path("etc/x.toml"), environ={}, cwd=tmp_path, secrets_directory=tmp_path)

    assert loaded.settings is not None
    assert loaded.settings.credentials["login"].client_secret_file == str(tmp_path / "etc" / "secret")


def test_the_state_directory(tmp_path: Path) -> None:
    """Systemd's directory is the default for data; a configured one wins."""
    environ = {"STATE_DIRECTORY": "/var/lib/payproxy:/var/lib/more"}
    loaded = load_text(tmp_path, PLAIN, environ=environ)
    assert loaded.settings is not None
    assert loaded.settings.data_directory == "/var/lib/payproxy"
    assert loaded.sources["data_directory"] == "$STATE_DIRECTORY"

    loaded = load_text(tmp_path, 'data_directory = "mine"\n' + PLAIN, environ=environ)
    assert loaded.settings is not None
    assert loaded.settings.data_directory == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (('listen = "127.0.0.1:8080"', "listen = 127.0.0.1:8080"), 4),
        (('listen = "127.0.0.1:8080"', 'listen = "a"\nlisten = "b"'), 5),
        (("[upstreams.payments]", "[upstreams.payments"), 9),
        (('credential = "login"', 'credential = "login'), 21),
        (('credential = "login"', "credential = ["), 22),
    ],
)
def test_syntax(tmp_path: Path, change: tuple[str, str], line: int) -> None:
    """What is not TOML is said with its line."""
    finding = one_finding(load_text(tmp_path, plain(change)))

    assert (finding.file, finding.line, finding.severity) == ("payproxy.toml", line, Severity.ERROR)
    assert finding.what.startswith("not TOML: ")


def test_syntax_that_is_nested_too_deeply(tmp_path: Path) -> None:
    """A file made to break the parser is a finding too."""
    assert "nested" in one_finding(load_text(tmp_path, "a = " + "[" * 50000)).what


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    """Another encoding is named with its line."""
    (tmp_path / "payproxy.toml").write_bytes(PLAIN.encode() + b"# caf\xe9\n")
    finding = one_finding(load(None, environ={}, cwd=tmp_path))

    assert finding.what == "line 22 is not UTF-8"


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """A file saved by a Windows editor is read."""
    (tmp_path / "payproxy.toml").write_bytes(b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode())

    assert load(None, environ={}, cwd=tmp_path).findings == ()


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A log named by mistake is not read to its end."""
    with (tmp_path / "payproxy.toml").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    assert "bytes" in one_finding(load(None, environ={}, cwd=tmp_path)).what


def test_all_findings_at_once(tmp_path: Path) -> None:
    """One broken key hides no other, neither in its own table nor in what refers to it."""
    text = plain(
        ("client-testing", "producton"),
        ('"127.0.0.1:8080"', '"nowhere"\nworker = 2'),
        ("url =", "ulr ="),
        ('flavor = "basic"', 'flavor = "basic"\ntimeout = "10"'),
        ('upstream = "payments"', 'upstream = "payments"\ncallers = ["nobody"]'),
    )
    loaded = load_text(tmp_path, text, environ={"PAYPROXY_ADMIN__LISTN": "x"})

    assert loaded.settings is None
    assert [(one.file, one.line, one.key) for one in loaded.findings] == [
        ("environment variable PAYPROXY_ADMIN__LISTN", 0, "admin.listn"),
        ("payproxy.toml", 1, "environment"),
        ("payproxy.toml", 4, "server.listen"),
        ("payproxy.toml", 5, "server.worker"),
        ("payproxy.toml", 10, "upstreams.payments.url"),
        ("payproxy.toml", 11, "upstreams.payments.ulr"),
        ("payproxy.toml", 15, "credentials.login.timeout"),
        ("payproxy.toml", 23, "routes.payments.callers"),
    ]


def test_a_secret_does_not_belong_into_the_file(tmp_path: Path) -> None:
    """A client secret in the TOML file is an error that tells the three other places."""
    text = plain(('client_secret_file = "secret"', 'client_secret = "canary"'))
    finding = one_finding(load_text(tmp_path, text))

    assert (finding.line, finding.key) == (15, "credentials.login.client_secret")
    assert "PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET" in finding.fix
    assert "canary" not in str(finding)


def test_no_secret_shows(tmp_path: Path) -> None:
    """Whatever is wrong around them, secrets are in no finding, no repr, no masked view and no source."""
    secrets = tmp_path / "run-secrets"
    secrets.mkdir()
    (secrets / "credentials__other__client_secret").write_text("canary-one\n")
    (secrets / "credentials__login__client_secrt").write_text("canary-two\n")
    environ = {
        "PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "canary-three",
        "PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRETS": "canary-four",
        "PAYPROXY_SERVER__WORKERS": "canary-five",
        "PAYPROXY_SERVER__HOSTS": '["canary-six',
        "PAYPROXY_ADMIN__OPERATORS__BOB": "canary-seven",
    }
    more = """
[credentials.other]
flavor = "jwt"
client_id = "x"
client_secret = 7
private_key_file = \"\"\"-----BEGIN PRIVATE KEY-----
canary-eight
-----END PRIVATE KEY-----\"\"\"
certificate_file = "-----BEGIN canary-nine"
token_url = "https://user:canary-ten@login.jpmorgan.com"
egress_proxy = "http://user:canary-eleven@proxy:1"
[credentials.third]
flavor = "basic"
client_id = "x"
client_secret = ["canary-twelve"]
"""
    text = plain(("[admin]", '[admin]\noperators = { alice = "canary-thirteen", eve = ["canary-14"] }'), more=more)
    broken = load_text(tmp_path, text, environ=environ)
    shown = [*map(str, broken.findings), json.dumps([one.as_dict() for one in broken.findings]), repr(broken)]

    assert len(broken.errors) >= 9
    assert broken.readable is not None
    shown += [
        json.dumps(masked(broken.readable)),
        str(broken.readable),
        str(broken.sources),
    ]
    whole = load_text(tmp_path, plain(more=CALLER), environ={"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "canary"})
    shown += [repr(whole), json.dumps(masked(whole.settings)) if whole.settings else "", str(whole.sources)]
    assert "canary" not in "".join(shown)


def test_a_fifo_is_no_configuration(tmp_path: Path) -> None:
    """Nobody waits until somebody writes to it."""
    os.mkfifo(tmp_path / "payproxy.toml", 0o600)
    loaded = load(tmp_path / "payproxy.toml", environ={}, cwd=tmp_path)
    assert [one.what for one in loaded.findings] == ["the file can't be read: it is not a regular file"]


def test_of_many_findings_the_first_are_told(tmp_path: Path) -> None:
    """And how many more there are: told in full, a file of nothing but faults takes minutes."""
    path = tmp_path / "payproxy.toml"
    path.write_text('environment = "mock"\n' + "".join(f"k{number}.b = 1\n" for number in range(3000)))
    loaded = load(path, environ={}, cwd=tmp_path)
    assert len(loaded.findings) == 201
    assert loaded.findings[-1].what == "there are 2800 more"


def test_rules_across_a_faulty_section_come_in_the_next_run(tmp_path: Path) -> None:
    """Nothing is said of others because of a value that will be another one."""
    text = plain(('"127.0.0.1:8080"', '"0.0.0.0:8080"\nworkers = "x"'))

    assert [one.key for one in load_text(tmp_path, text).errors] == ["server.workers"]
    mended = load_text(tmp_path, text.replace('workers = "x"', "workers = 1"))
    assert [one.key for one in mended.errors] == ["server.allow_anonymous"]


def test_the_valid_keys_of_a_faulty_section_can_be_read(tmp_path: Path) -> None:
    """Commands find the log and its database by them; to run with there is nothing."""
    more = '\n[request_log]\nfile = "requests.jsonl"\nindex_headers = 7\n[callers.erp]\nnetworks = ["x"]\n'
    loaded = load_text(tmp_path, plain(("url =", "ulr ="), more=more))

    assert loaded.settings is None
    assert loaded.readable is not None
    assert loaded.readable.request_log.file == str(tmp_path / "requests.jsonl")
    assert loaded.readable.callers["erp"].networks == ()
    assert loaded.readable.upstreams == {}
