from pathlib import Path

import pytest

from proxy.cli.finding_text import PLAIN_KEYS, finding_text
from proxy.settings.findings import Finding, Severity
from proxy.settings.load import load
from proxy.settings.schema import ValueKind, field_at, kind_of, names_in


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the developer's terminal decide how wide it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def shown(text: str, *, line: int) -> str:
    """Return a finding on that line of a file with *text*."""
    Path("payproxy.toml").write_text(text)
    finding = Finding(
        severity=Severity.ERROR, file="payproxy.toml", line=line, key="server.listen", what="is wrong", fix="mend it"
    )
    return finding_text(finding)


def test_the_line_stands_below_with_a_caret() -> None:
    """Under the key; of a table, under its header."""
    text = '[server]\n  listen = "nowhere"  # canary\n'

    assert shown(text, line=2).split("\n") == [
        "payproxy.toml:2: error: server.listen: is wrong; mend it",
        "  |",
        '2 |   listen = "nowhere"',
        "  |   ^^^^^^",
    ]
    assert shown(text, line=1).split("\n")[2:] == ["1 | [server]", "  | ^^^^^^^^"]


def test_it_is_wrapped_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the file is cut, its caret too."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown(f'listen = "{"x" * 200}"\n', line=1).split("\n")

    assert all(len(line) <= 40 for line in lines), lines
    assert " ".join(line.strip() for line in lines[:-3]) == "payproxy.toml:1: error: server.listen: is wrong; mend it"
    assert lines[-2].endswith("…")


@pytest.mark.parametrize(
    "line",
    [
        'client_secret = "canary"',
        'client_secrt = "canary"',
        'client_secret_file = "canary"',
        "operators = { anna = 'canary' }",
        'database = "postgresql://u:canary@h/d"',
        'egress_proxy = "http://u:canary@h:1"',
        'url = "redis://h/0?password=canary"',
        'certificate_file = "-----BEGIN PRIVATE KEY----- canary"',
        'api_key_sha256 = ["canary"]',
        '  "canary",',
        "canary",
    ],
)
def test_what_may_be_a_secret_is_not_shown(line: str) -> None:
    """Nor the value of any key that is not known to hold none."""
    assert "canary" not in shown(f"{line}\n", line=1)


def test_no_key_with_a_secret_is_taken_for_a_plain_one() -> None:
    """Whatever sections come to have."""
    tables: list[tuple[str, ...]] = [(name,) for name in names_in(())]
    tables += [(section, "x") for section in ("upstreams", "credentials", "callers", "migrations")]
    keys = [(*table, name) for table in tables for name in names_in(table)]
    secret = {
        key[-1]
        for key in keys
        if (field := field_at(key)) is not None
        and (kind_of(field) is ValueKind.SECRET or "passphrase" in key[-1] or "secret" in key[-1])
    }
    assert {"client_secret", "client_secret_file", "private_key_passphrase_file"} <= secret
    assert not secret & PLAIN_KEYS


def test_a_finding_without_a_place_is_its_text(tmp_path: Path) -> None:
    """As of a variable of the environment, or of a file that is gone."""
    [finding, *_] = load(None, environ={"PAYPROXY_SERVER__LISEN": "x"}, cwd=tmp_path).findings
    assert finding_text(finding) == str(finding)
    Path("payproxy.toml").write_text("")
    gone = Finding(severity=Severity.ERROR, file="payproxy.toml", line=9, key="", what="is wrong", fix="mend it")
    assert finding_text(gone) == str(gone)
