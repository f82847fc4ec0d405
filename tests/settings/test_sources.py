import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.private_file import read_file
from proxy.secret import Secret
from proxy.settings.load import load
from proxy.settings.sources import environment_layer, find_file, merge, secret_text
from proxy.settings.values import masked
from tests.journeys.support import private
from tests.settings.support import PLAIN, load_text, one_finding, plain

SOURCES = ("flag", "environment variable", "secrets file", "payproxy.toml:", "default")

# Keys of every kind, each with two values that differ from the default and are good by themselves.
CHOICES: dict[str, tuple[Any, Any]] = {
    "server.max_requests": (7, 8),
    "server.exchange_timeout": (70.5, 80.5),
    "server.allow_browsers": (True, True),
    "server.hosts": (["a.example"], ["b.example", "c.example"]),
    "server.listen": ("127.0.0.1:1", "127.0.0.1:2"),
    "request_log.durability": ("async", "async"),
    "request_log.index_headers": (["x"], ["y", "z"]),
    "credentials.login.client_id": ("id-1", "id-2"),
    "credentials.login.assertion_lifetime": (30, 40),
    "upstreams.payments.max_connections": (5, 6),
}


def written(value: Any, *, as_json: bool) -> str:
    """Return *value* as a variable or file carries it."""
    if isinstance(value, list) and not as_json:
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


@given(
    key=st.sampled_from(sorted(CHOICES)),
    given_by=st.sets(st.sampled_from(SOURCES[:4])),
    picks=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    as_json=st.booleans(),
)
def test_precedence(key: str, given_by: set[str], picks: list[int], as_json: bool) -> None:  # noqa: FBT001 - drawn
    """Flag, then environment, then secrets directory, then file, then default: the first one wins and says so."""
    values = {source: CHOICES[key][pick] for source, pick in zip(SOURCES[:4], picks, strict=True)}
    section, _, name = key.rpartition(".")
    text = plain(('listen = "127.0.0.1:8080"\n', "")).replace('client_id = "my-client"\n', "")
    in_file = {"credentials.login.client_id": "default-id"} if key != "credentials.login.client_id" else {}
    if "payproxy.toml:" in given_by or key == "credentials.login.client_id":
        in_file[key] = values["payproxy.toml:"]
    for dotted, value in in_file.items():
        table, _, last = dotted.rpartition(".")
        if f"[{table}]" not in text:
            text += f"\n[{table}]\n"
        text = text.replace(f"[{table}]\n", f"[{table}]\n{last} = {json.dumps(value)}\n")
    spelled = key.replace(".", "__")
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        (folder / "run-secrets").mkdir()
        if "secrets file" in given_by:
            private(folder / "run-secrets" / spelled, written(values["secrets file"], as_json=as_json) + "\n")
        environ = {f"PAYPROXY_{spelled.upper()}": written(values["environment variable"], as_json=as_json)}
        loaded = load_text(
            folder,
            text,
            environ=environ if "environment variable" in given_by else {},
            flags={key: written(values["flag"], as_json=as_json)} if "flag" in given_by else {},
        )

    assert loaded.findings == ()
    assert loaded.settings is not None
    strongest = next(
        (source for source in SOURCES[:4] if source in given_by),
        "payproxy.toml:" if key in in_file else "default",
    )
    shown: Any = masked(loaded.settings)
    for part in [*section.split("."), name]:
        shown = shown[part]
    assert loaded.sources[key].startswith(strongest)
    if strongest != "default":
        assert shown == values[strongest]


def test_only_names_with_two_underscores_are_settings(tmp_path: Path) -> None:
    """Kubernetes injects PAYPROXY_PORT for a service of that name; PAYPROXY_CONFIG names the file."""
    environ = {
        "PAYPROXY_PORT": "tcp://10.0.0.1:80",
        "PAYPROXY_SERVICE_HOST": "x",
        "OTHER__X": "y",
        "payproxy_server__x": "z",
    }

    assert load_text(tmp_path, PLAIN, environ=environ).findings == ()


@pytest.mark.parametrize(
    ("variable", "fix"),
    [
        ("PAYPROXY_SERVER__WORKRS", "did you mean PAYPROXY_SERVER__WORKERS?"),
        ("PAYPROXY_SERVR__WORKERS", "did you mean PAYPROXY_SERVER__WORKERS?"),
        ("PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRTE", "did you mean PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET?"),
        ("PAYPROXY_ROUTES__0__PATH", "write [[routes]] in the file"),
        ("PAYPROXY_SERVER__", "correct the name"),
        ("PAYPROXY___X", "correct the name"),
        ("PAYPROXY_CREDENTIALS__LOGIN", "add __ and a key"),
        ("PAYPROXY_SERVER__LISTEN__MORE", "correct the name"),
        ("PAYPROXY_XYZ__ABC", "correct the name"),
    ],
)
def test_unknown_variables(tmp_path: Path, variable: str, fix: str) -> None:
    """A variable that would be ignored in silence is an error that names the one that was meant."""
    finding = one_finding(load_text(tmp_path, PLAIN, environ={variable: "canary"}))

    assert finding.file == f"environment variable {variable}"
    assert fix in finding.fix
    assert "canary" not in str(finding)


def test_a_wrong_value_names_its_variable(tmp_path: Path) -> None:
    """What is wrong with a value from the environment is said of the variable, not of the file."""
    finding = one_finding(load_text(tmp_path, PLAIN, environ={"PAYPROXY_SERVER__WORKERS": "many"}))

    assert (finding.file, finding.line, finding.key) == (
        "environment variable PAYPROXY_SERVER__WORKERS",
        0,
        "server.workers",
    )
    assert finding.what == "is not an integer"


def test_a_list_that_is_no_json(tmp_path: Path) -> None:
    """A list that begins with a bracket has to be JSON."""
    finding = one_finding(load_text(tmp_path, PLAIN, environ={"PAYPROXY_SERVER__HOSTS": '["x"'}))

    assert finding.what == "the value is not JSON"


def test_a_whole_table_from_the_environment(tmp_path: Path) -> None:
    """Tables come into being by variables alone; their names are lower-case."""
    environ = {
        "PAYPROXY_CREDENTIALS__SECOND__FLAVOR": "basic",
        "PAYPROXY_CREDENTIALS__SECOND__CLIENT_ID": "x",
        "PAYPROXY_CREDENTIALS__SECOND__CLIENT_SECRET": "y",
        "PAYPROXY_CREDENTIALS__SECOND__EXTRA_PARAMETERS": '{"a": "b"}',
        "PAYPROXY_CALLERS__ERP__NETWORKS": "10.0.0.0/8, ::1/128",
    }
    loaded = load_text(tmp_path, PLAIN, environ=environ)

    assert loaded.settings is not None
    assert loaded.settings.credentials["second"].client_secret == Secret("y")
    assert loaded.settings.credentials["second"].extra_parameters == {"a": "b"}
    assert loaded.settings.callers["erp"].networks == ("10.0.0.0/8", "::1/128")
    assert (
        loaded.sources["credentials.second.client_id"] == "environment variable PAYPROXY_CREDENTIALS__SECOND__CLIENT_ID"
    )


@pytest.mark.parametrize(
    ("content", "secret"), [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), (" x ", " x "), ("x\r", "x\r")]
)
def test_one_trailing_newline_is_dropped(tmp_path: Path, content: str, secret: str) -> None:
    """`echo secret > file` works, and a secret may end in white space."""
    assert secret_text(read_file(private(tmp_path / "secret", content))) == secret


def test_secrets_directories(tmp_path: Path) -> None:
    """Docker's files are read, systemd's win over them, other programs' files and hidden ones are left alone."""
    docker, systemd = tmp_path / "run-secrets", tmp_path / "systemd"
    docker.mkdir()
    systemd.mkdir()
    private(docker / "credentials__login__client_secret", "one\n")
    (docker / "credentials__login__client_id").write_text("from docker\n")
    (docker / "postgres__password").write_text("x")
    (docker / "server").write_text("x")
    (docker / ".server__x").write_text("x")
    (docker / "server__directory").mkdir()
    private(systemd / "credentials__login__client_secret", "two\n")
    loaded = load_text(tmp_path, PLAIN, environ={"CREDENTIALS_DIRECTORY": str(systemd)})

    assert loaded.findings == ()
    assert loaded.settings is not None
    assert loaded.settings.credentials["login"].client_secret == Secret("two")
    assert loaded.settings.credentials["login"].client_id == "from docker"
    source = loaded.sources["credentials.login.client_secret"]
    assert source == f"secrets file {systemd}/credentials__login__client_secret"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("credentials__login__client_secrt", b"canary", "sets an unknown key"),
        ("credential__login__client_secret", b"canary", "sets an unknown key"),
        ("credentials__login__client_secret", b"canary\xff", "is not UTF-8"),
        ("credentials__login__client_secret", b"canary" * 20000, "is larger than 65536 bytes"),
        ("credentials__login__client_secret", b"", "must be a string that is not empty"),
    ],
)
def test_wrong_secret_files(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    """A file that nearly has one of our names, or no usable text in it, is an error."""
    (tmp_path / "run-secrets").mkdir()
    (tmp_path / "run-secrets" / name).touch(mode=0o600)
    (tmp_path / "run-secrets" / name).write_bytes(content)
    finding = one_finding(load_text(tmp_path, PLAIN))

    assert what in finding.what
    assert finding.file == f"secrets file {tmp_path}/run-secrets/{name}"
    assert "canary" not in str(finding)


def test_a_link_that_can_not_be_followed_hides_no_other_file(tmp_path: Path) -> None:
    """One of another program, into a directory of another user or with a broken target, is that program's affair."""
    (tmp_path / "run-secrets").mkdir()
    private(tmp_path / "run-secrets" / "credentials__login__client_secret", "one")
    (tmp_path / "run-secrets" / "another__program").symlink_to("x" * 300)
    loaded = load_text(tmp_path, PLAIN)

    assert loaded.findings == ()
    assert loaded.settings is not None
    assert loaded.settings.credentials["login"].client_secret == Secret("one")


@pytest.mark.parametrize(
    ("name", "content", "refused"),
    [
        ("credentials__login__client_secret", "canary", True),
        ("state__url", "redis://:canary@127.0.0.1/0", True),
        ("state__url", "redis://127.0.0.1/0", False),
        ("credentials__login__client_id", "my-client", False),
    ],
)
def test_a_secret_that_others_may_read(tmp_path: Path, name: str, content: str, *, refused: bool) -> None:
    """A secret in a secrets directory is a private file like any other; what is no secret may have any mode."""
    (tmp_path / "run-secrets").mkdir()
    private(tmp_path / "run-secrets" / name, content).chmod(0o444)
    findings = [one for one in load_text(tmp_path, PLAIN).findings if "run-secrets" in one.file]

    assert [one.what for one in findings] == ["group or others may read it (mode 0444)"] * refused
    assert "canary" not in str(findings)


def test_where_a_file_is_looked_for(tmp_path: Path) -> None:
    """The flag, then the variable, then the working directory."""
    environ = {"PAYPROXY_CONFIG": "variable.toml"}
    (tmp_path / "payproxy.toml").write_text("")

    assert find_file(Path("flag.toml"), environ=environ, cwd=tmp_path) == Path("flag.toml")
    assert find_file(None, environ=environ, cwd=tmp_path) == Path("variable.toml")
    assert find_file(None, environ={}, cwd=tmp_path) == Path("payproxy.toml")


def test_a_variable_puts_a_table_where_the_file_has_nonsense() -> None:
    """What the file says in the way of a stronger source does not stop it."""
    merged, origins = merge({"server": 5}, [environment_layer({"PAYPROXY_SERVER__WORKERS": "2"})])

    assert merged == {"server": {"workers": 2}}
    assert origins == {("server", "workers"): "environment variable PAYPROXY_SERVER__WORKERS"}


def test_a_flag_names_itself(tmp_path: Path) -> None:
    """A wrong value on the command line is said of the flag."""
    finding = one_finding(load_text(tmp_path, PLAIN, flags={"server.listen": "nowhere"}))

    assert finding.file == "flag for server.listen"


def test_the_real_environment_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is handed in counts, so that tests and `check` of several files know what they look at."""
    monkeypatch.setenv("PAYPROXY_SERVER__WORKERS", "7")
    monkeypatch.setenv("SERVER__WORKERS", "7")
    monkeypatch.setenv("SERVER", '{"workers": 7}')
    (tmp_path / "payproxy.toml").write_text(PLAIN)
    loaded = load(None, environ={}, cwd=tmp_path)

    assert loaded.settings is not None
    assert loaded.settings.server.workers == 1
