import hashlib
import json
import tomllib
from pathlib import Path

from click.testing import CliRunner

from proxy.cli.main import payproxy
from tests.cli.support import run


def test_new_prints_key_and_matching_configuration(tmp_path: Path) -> None:
    """The key has 128 bits, stands on stdout once, and the lines to paste are TOML with its SHA-256."""
    done = run("callers", "new", "erp", cwd=tmp_path)
    assert done.returncode == 0
    first, _, lines = done.stdout.partition("\n")
    key = first.removeprefix("key: ")
    assert len(bytes.fromhex(key)) == 16
    assert done.stdout.count(key) == 1
    assert key not in done.stderr
    assert tomllib.loads(lines) == {"callers": {"erp": {"api_key_sha256": [hashlib.sha256(key.encode()).hexdigest()]}}}


def test_two_keys_differ(tmp_path: Path) -> None:
    """JSON carries the same data, and no two calls give one key."""
    first, second = (json.loads(run("callers", "new", "erp", "--json", cwd=tmp_path).stdout) for _ in range(2))
    assert first["api_key_sha256"] == hashlib.sha256(first["key"].encode()).hexdigest()
    assert first["key"] != second["key"]


def test_name_must_fit_a_table() -> None:
    """A name that TOML or the settings would refuse is a usage error."""
    for name in ["ERP", "1st", "a.b", "a b", "", 'a"]\n[x']:
        result = CliRunner().invoke(payproxy, ["callers", "new", "--", name])
        assert result.exit_code == 2
        assert result.stdout == ""
