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


def test_several_keys_go_into_files(tmp_path: Path) -> None:
    """One a caller, for its owner's eyes only; the lines to paste are on stdout, the keys nowhere else."""
    done = run("callers", "new", "erp", "batch", "--out", "keys", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    files = {name: tmp_path / "keys" / f"{name}.key" for name in ("erp", "batch")}
    keys = {name: file.read_text().strip() for name, file in files.items()}
    assert [file.stat().st_mode & 0o777 for file in files.values()] == [0o600, 0o600]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert tomllib.loads(done.stdout) == {
        "callers": {name: {"api_key_sha256": [hashlib.sha256(key.encode()).hexdigest()]} for name, key in keys.items()}
    }
    assert all(key not in done.stdout + done.stderr and len(bytes.fromhex(key)) == 16 for key in keys.values())
    assert keys["erp"] != keys["batch"]


def test_json_names_the_files(tmp_path: Path) -> None:
    """And has no key."""
    done = run("callers", "new", "erp", "--out", ".", "--json", cwd=tmp_path)

    (value,) = json.loads(done.stdout)
    assert value["key_file"] == "erp.key"
    assert "key" not in value
    assert value["api_key_sha256"] == hashlib.sha256((tmp_path / "erp.key").read_bytes().strip()).hexdigest()


def test_a_folder_that_others_may_write_in_is_named(tmp_path: Path) -> None:
    """They could put a key of theirs there before it is handed over; a folder that is made is nobody else's."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    done = run("callers", "new", "erp", "batch", "--out", "open", cwd=tmp_path)
    private = run("callers", "new", "erp", "batch", "--out", "private", cwd=tmp_path)

    assert (done.returncode, private.returncode) == (0, 0)
    assert done.stderr.startswith("warning: others may write in open (mode 0777): choose a folder that only you may")
    assert done.stderr.count("warning") == 1
    assert "paste the printed lines into payproxy.toml" in done.stderr
    assert "warning" not in private.stderr


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    """All files or none: a caller may be using the old one."""
    (tmp_path / "batch.key").write_text("old")

    done = run("callers", "new", "erp", "batch", "--out", ".", cwd=tmp_path)

    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["batch.key"]
    assert (tmp_path / "batch.key").read_text() == "old"


def test_what_can_not_be_made(tmp_path: Path) -> None:
    """No name, one twice, several without a folder, one that is no name: usage errors, and nothing is written."""
    for arguments in ([], ["a", "a", "--out", "keys"], ["a", "b"], ["a", "B", "--out", "keys"]):
        assert run("callers", "new", *arguments, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []
