import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.cli.logs_prove import prove
from proxy.cli.logs_verify import verify
from proxy.cli.output import Failure
from proxy.entropy import SystemEntropy
from proxy.records.command_record import write_command_record
from proxy.records.pruned_range import ranges_of
from tests.records.chains import Writer, renamed, whole
from tests.records.support import an_exchange
from tests.records.test_copies import jsonl, stored

KEY = b"0123456789abcdef"
BODY = b'{"amount": 1}'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with a log file, a key for bodies, and a data directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "body.key").touch(mode=0o600)
    (tmp_path / "body.key").write_bytes(KEY)
    path = tmp_path / "payproxy.toml"
    path.write_text(
        'environment = "mock"\ndata_directory = "data"\n'
        '[request_log]\ndatabase = "sqlite:log/requests.db"\nfile = "requests.jsonl"\nbody_hmac_key_file = "body.key"\n'
        '[upstreams.bank]\nurl = "http://127.0.0.1:1"\n'
        '[credentials.login]\nflavor = "basic"\nclient_id = "c"\nclient_secret_file = "secret"\n'
        '[[routes]]\nname = "r"\npath = "/r"\nupstream = "bank"\ncredential = "login"\n'
    )
    return path


def run(command: click.Command, *arguments: str | Path) -> Result:
    """Run *command* in this process."""
    return CliRunner().invoke(command, list(map(str, arguments)))


def as_json(command: click.Command, *arguments: str | Path) -> tuple[int, Any]:
    """Return exit code and data."""
    result = run(command, *arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_a_log_that_holds(tmp_path: Path) -> None:
    """Exit code 0; how many records there are, how far they are signed, and with which key."""
    path = jsonl(tmp_path / "a.jsonl", whole(tmp_path))

    result = run(verify, path)

    assert result.exit_code == 0, result.output
    for words in ("19, 1 to 19", "2 checkpoints, up to record 18", Writer(tmp_path).key.public, "the chain holds"):
        assert words in result.stdout


def test_the_first_flaw_stands_first_and_ends_with_1(tmp_path: Path) -> None:
    """Its place is file and line."""
    lines = whole(tmp_path)
    lines[6] = lines[6].replace(b'"status":200', b'"status":500')
    del lines[14]
    path = jsonl(tmp_path / "a.jsonl", lines)

    result = run(verify, path)

    assert result.exit_code == 1
    first, second, *_ = result.stdout.splitlines()
    assert first.startswith(f"{path}:7: error: record 7 was changed")
    assert second.startswith(f"{path}:15: error: record 15 is missing")
    assert "the log is not what the proxy wrote" in result.stdout


def test_json(tmp_path: Path) -> None:
    """The same by name."""
    lines = whole(tmp_path)
    del lines[4]

    code, value = as_json(verify, jsonl(tmp_path / "a.jsonl", lines))

    assert (code, value["holds"]) == (1, False)
    [copy] = value["copies"]
    assert copy["flaws"][0] | {"place": "", "what": ""} == {
        "fault": "missing", "severity": "error", "place": "", "instance": "host-1", "sequence": 5, "what": ""
    }  # fmt: skip
    assert copy["instances"]["host-1"]["records"] == 18
    assert copy["instances"]["host-1"]["signed_up_to"] == 18


def test_an_anchor_knows_what_was_cut_off(tmp_path: Path) -> None:
    """A warning becomes an error with a checkpoint that was kept elsewhere."""
    lines = whole(tmp_path)
    path = jsonl(tmp_path / "a.jsonl", lines[:14])
    anchor = jsonl(tmp_path / "anchor.jsonl", [lines[11], lines[18]])

    alone, anchored = run(verify, path), run(verify, path, "--anchor", anchor)

    assert (alone.exit_code, anchored.exit_code) == (0, 1)
    assert "warning: record 14 is the last, and no clean stop" in alone.stdout
    assert "error: records 15 to 18 are missing" in anchored.stdout
    assert run(verify, jsonl(tmp_path / "b.jsonl", lines), "--anchor", anchor).exit_code == 0


def test_a_forged_anchor_is_an_error(tmp_path: Path) -> None:
    """It proves nothing, and somebody made it."""
    lines = whole(tmp_path)
    anchor = jsonl(tmp_path / "anchor.jsonl", [lines[18].replace(b'"sequence":18', b'"sequence":17', 1)])

    result = run(verify, jsonl(tmp_path / "a.jsonl", lines), "--anchor", anchor)

    assert result.exit_code == 1
    assert result.stdout.startswith(f"{anchor}:1: error: ")


def test_without_files_every_copy_is_checked(config: Path, tmp_path: Path) -> None:
    """Database, file and stream, with the data directory's key."""
    lines = whole(tmp_path / "data")
    (tmp_path / "data" / "log").mkdir()
    asyncio.run(stored(tmp_path / "data" / "log" / "requests.db", lines))
    jsonl(tmp_path / "requests.jsonl", lines)
    (tmp_path / "data" / "stream").mkdir()
    jsonl(tmp_path / "data" / "stream" / "records-1.jsonl", lines)

    code, value = as_json(verify, "--config", config)

    assert code == 0, value
    assert [copy["copy"] for copy in value["copies"]] == ["database", "file", "stream"]
    assert [copy["instances"]["host-1"]["records"] for copy in value["copies"]] == [19] * 3
    assert value["public_key"] == Writer(tmp_path / "data").key.public


def test_what_is_on_its_way_to_the_database_is_no_error(config: Path, tmp_path: Path) -> None:
    """What the stream has, and the record of a prune that waits for the proxy to start."""
    lines = whole(tmp_path / "data")
    (tmp_path / "data" / "log").mkdir()
    (tmp_path / "data" / "stream").mkdir()
    asyncio.run(stored(tmp_path / "data" / "log" / "requests.db", lines[12:16]))
    jsonl(tmp_path / "data" / "stream" / "records-1.jsonl", lines[14:])
    anchor = jsonl(tmp_path / "anchor.jsonl", [lines[11], lines[18]])

    code, value = as_json(verify, "--config", config, "--anchor", anchor)
    database = value["copies"][0]
    assert (code, database["copy"], database["holds"]) == (0, "database", True)
    assert [flaw["fault"] for flaw in database["flaws"]] == ["begins_late", "unclean", "anchor", "anchor"]

    asyncio.run(stored(tmp_path / "data" / "log" / "requests.db", lines[16:]))
    assert run(verify, "--config", config, "--anchor", anchor).exit_code == 1
    left = Writer(tmp_path / "data").operation(tuple(ranges_of(lines[:12])), signed=True).lines[0] + b"\n"
    write_command_record(tmp_path / "data", left, entropy=SystemEntropy())

    code, value = as_json(verify, "--config", config, "--anchor", anchor)
    assert code == 0, value
    assert [flaw["fault"] for flaw in value["copies"][0]["flaws"]] == ["anchor"]


def test_a_host_with_another_name_is_said(tmp_path: Path) -> None:
    """One chain, with both names."""
    path = jsonl(tmp_path / "a.jsonl", renamed(tmp_path))

    assert "pod-b, then pod-a" in run(verify, path).stdout
    assert as_json(verify, path)[1]["copies"][0]["instances"]["pod-b"]["names"] == ["pod-b", "pod-a"]


def test_another_key_than_the_data_directorys_is_an_error(config: Path, tmp_path: Path) -> None:
    """Whoever wrote the log anew signed it with his own."""
    (tmp_path / "his").mkdir()
    Writer(tmp_path / "data")
    jsonl(tmp_path / "requests.jsonl", whole(tmp_path / "his"))

    result = run(verify, "--config", config)

    assert result.exit_code == 1
    assert "it is not this data directory's" in result.stdout


def test_an_sqlite_file_is_a_copy(tmp_path: Path) -> None:
    """Rows are named like lines."""
    lines = [line for line in whole(tmp_path) if json.loads(line)["kind"] == "exchange"]
    asyncio.run(stored(tmp_path / "requests.db", lines[:4] + lines[5:]))
    [path] = tmp_path.glob("requests-*.db")

    result = run(verify, path)

    assert result.exit_code == 1
    assert f"{path.name} row 5: error: record 6 is missing" in result.stdout


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    """Exit code 1, without a traceback."""
    (tmp_path / "empty").mkdir()

    result = run(verify, tmp_path / "empty")

    assert isinstance(result.exception, Failure | SystemExit)
    assert result.exit_code == 1


def test_a_body_is_proven(config: Path, tmp_path: Path) -> None:
    """The body of the request, and no other, has the record's HMAC."""
    writer = Writer(tmp_path / "data").start()
    exchange = an_exchange(body_hmac=hmac.new(KEY, BODY, hashlib.sha256).hexdigest())
    writer.put(writer._builder.exchange(exchange)[:-1])
    without = an_exchange()
    writer.put(writer._builder.exchange(without)[:-1])
    jsonl(tmp_path / "requests.jsonl", writer.lines)
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "other").write_bytes(BODY + b"\n")

    same = run(prove, exchange.id, tmp_path / "body", "--config", config)
    other = run(prove, exchange.id, tmp_path / "other", "--config", config)
    none = run(prove, without.id, tmp_path / "body", "--config", config)
    unknown = run(prove, "018f0000-0000-7000-8000-000000000001", tmp_path / "body", "--config", config)

    assert (same.exit_code, other.exit_code, none.exit_code, unknown.exit_code) == (0, 1, 1, 1)
    assert same.stdout.startswith("this is the body of the request")
    assert "this is NOT the body" in other.stdout
    assert "has no body_hmac" in none.stdout
    assert KEY.decode() not in same.output + other.output


def test_without_a_key_nothing_can_be_proven(config: Path, tmp_path: Path) -> None:
    """It is said which setting that is."""
    config.write_text(config.read_text().replace('body_hmac_key_file = "body.key"\n', ""))
    (tmp_path / "body").write_bytes(BODY)

    result = run(prove, "x", tmp_path / "body", "--config", config)

    assert result.exit_code == 1
    assert "body_hmac_key_file" in result.output


def noted(data: Path, *, after: int, last: int, database: Path) -> None:
    """Write down what the keeper does of the database: how far it is, and since when it takes all."""
    stream = data / "stream"
    stream.mkdir(exist_ok=True)
    (stream / "positions.json").write_text(json.dumps({"database": [1, 0, last]}))
    (stream / "sinks.json").write_text(json.dumps({"database": {"target": f"file:{database}", "after": after}}))


def test_nothing_holds_only_beside_something(config: Path, tmp_path: Path) -> None:
    """A database that is new has nothing yet; one that had records has none any more; and a log of nothing is none."""
    data = tmp_path / "data"
    assert as_json(verify, "--config", config)[0] == 1
    lines = whole(data)
    jsonl(tmp_path / "requests.jsonl", lines)
    (data / "stream").mkdir()
    jsonl(data / "stream" / "records-1.jsonl", lines)

    assert as_json(verify, "--config", config)[0] == 1, "nobody knows whether the database had any"

    noted(data, after=19, last=19, database=data / "log" / "requests.db")
    code, value = as_json(verify, "--config", config, "--anchor", tmp_path / "requests.jsonl")
    assert (code, value["copies"][0]["outcome"], value["copies"][1]["outcome"]) == (0, "empty", "holds")
    assert "no records: nothing was checked" in run(verify, "--config", config).stdout

    noted(data, after=0, last=19, database=data / "log" / "requests.db")
    code, value = as_json(verify, "--config", config)
    assert (code, value["copies"][0]["outcome"]) == (1, "broken")
    assert "records 1 to 19 are missing" in value["copies"][0]["flaws"][0]["what"]


def test_a_key_file_says_whom_one_trusts(tmp_path: Path) -> None:
    """PEM or the line that is printed; another chain than theirs is an error then, and without one it is said whose."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path = jsonl(tmp_path / "a.jsonl", whole(tmp_path / "a"))
    (tmp_path / "no.pub").write_text("no key")

    without = run(verify, path)
    [printed] = [line for line in without.stdout.splitlines() if line.startswith("public key")]
    (tmp_path / "a.pub").write_text(printed + "\n")
    named = run(verify, path, "--key", tmp_path / "a.pub")
    private = run(verify, path, "--key", tmp_path / "a" / "checkpoint.key")
    others = run(verify, path, "--key", _public(tmp_path / "b"))
    none = run(verify, path, "--key", tmp_path / "no.pub")

    assert [each.exit_code for each in (without, named, private, others, none)] == [0, 0, 0, 1, 1]
    assert "verified by its own key, fingerprint SHA256:" in without.stdout
    assert "verified by its own key" not in named.stdout
    assert f"{printed} (named by --key)" in named.stdout
    assert "which is not trusted" in others.stdout
    assert "holds no Ed25519 key" in str(none.exception) + none.output


def _public(folder: Path) -> Path:
    """Write the public key of the chain in *folder* as PEM."""
    raw = base64.b64decode(Writer(folder).key.public)
    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path = folder / "key.pem"
    path.write_bytes(pem)
    return path
