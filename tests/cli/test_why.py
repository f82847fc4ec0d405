import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.entropy import SystemEntropy
from proxy.errors import Sent
from proxy.records.checkpoint_key import checkpoint_key
from tests.cli.logs import DATA, make_log
from tests.cli.support import run
from tests.records.kept import inquiry, operation, record
from tests.records.support import NOW, an_attempt, an_exchange, intend, open_journal

KEY = (("Idempotency-Key", "key-1"),)
UNKNOWN: dict[str, Any] = {
    "status": 504, "origin": "proxy", "code": "upstream_timeout", "attempts": [an_attempt(status=0, sent=Sent.UNKNOWN)],
}  # fmt: skip


def told(folder: Path, asked: str, *arguments: str) -> str:
    """Return what `payproxy why` says, its white space as single spaces."""
    done = run("why", asked, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def id_in(line: bytes) -> str:
    """Return the id of the record *line*."""
    return str(json.loads(line)["id"])


def test_a_paragraph_says_who_when_and_whether_the_bank_has_it(tmp_path: Path) -> None:
    """Caller and proof, time, rule, token and side of each send, the answer, and the record that says so."""
    attempts = [
        an_attempt(status=401, token_fingerprint="aa", side="modern"),
        an_attempt(2, status=201, token_fingerprint="bb", side="legacy"),
    ]
    (line,) = make_log(tmp_path, [record(attempts=attempts, replayed=True, status=201, index=KEY)])

    text = told(tmp_path, id_in(line))

    assert text.startswith('On 2027-01-15 08:00:00.123+00:00 the caller "erp" (proved by network+key, address 10.20')
    assert "asked payproxy (mock, instance host-1) for POST /payment/v2/payments." in text
    assert 'It had Idempotency-Key "key-1".' in text
    assert 'Rule "payments" applied: upstream payments, side modern, a token of the credential "login"' in text
    assert (
        "It was sent twice: at 08:00:00.124+00:00 with token aa on side modern, which the bank answered with 401"
        in text
    )
    assert "with token bb on side legacy, which the bank answered with 201" in text
    assert "The bank has it: it answered. What to do: nothing." in text
    assert f"hash {json.loads(line)['hash']}" in text


@pytest.mark.parametrize(
    ("values", "has_it", "to_do"),
    [
        (UNKNOWN, "It is not known whether the bank has it", "ask the bank whether it has the request before"),
        (
            {"status": 502, "origin": "proxy", "code": "upstream_unreachable", "attempts": [], "cause": "refused"},
            "It was not sent. The caller got 502 upstream_unreachable from the proxy. DNS, connect or TLS failed.",
            "`payproxy check --online` tests DNS and TLS.",
        ),
        (
            UNKNOWN | {"method": "GET"},
            "It is not known whether the bank has it",
            "send it again if its answer is still needed: a GET changes nothing at the bank.",
        ),
        (
            UNKNOWN | {"status": 0, "code": "", "note": "worker_ended"},
            "the answer is not on record. Its worker process ended unexpectedly: whether the caller got",
            "ask the bank whether it has the request before",
        ),
        (
            {"status": 503},
            "The bank received it: it answered 503, which does not say whether it was executed.",
            "ask the bank whether it has executed the request before it is sent again",
        ),
        ({"status": 422}, "The bank has it", "the caller has to correct the request"),
        ({"status": 401}, "The bank has it", "look at the credential"),
        ({"caller_left": True, "left_at": 102.0}, "The caller left after 2.0 s. The bank has it", "tell the caller"),
        (
            {"caller_left": True, "left_at": 102.0, "status": 0, "sent": Sent.NO, "attempts": [], "origin": "proxy"},
            "The bank does not have it: nothing of it was sent.",
            "nothing: the caller left before it was sent, and may send it again.",
        ),
    ],
)
def test_it_says_what_to_do(tmp_path: Path, values: dict[str, Any], has_it: str, to_do: str) -> None:
    """By what the bank may have, and by the code."""
    (line,) = make_log(tmp_path, [record(**values)])
    text = told(tmp_path, id_in(line))

    assert has_it in text
    assert f"What to do: {to_do}" in text


def test_a_key_tells_all_requests_that_had_it(tmp_path: Path) -> None:
    """In the order of time, retries named; whoever else used the key is no retry."""
    make_log(
        tmp_path,
        [
            record(NOW + 65, index=KEY, status=200),
            record(NOW, index=KEY, **UNKNOWN),
            record(NOW + 70, index=KEY, caller="other"),
            record(NOW + 1, index=(("Idempotency-Key", "key-2"),)),
        ],
    )

    text = told(tmp_path, "key-1")
    values = json.loads(run("why", "key-1", "--json", cwd=tmp_path).stdout)

    assert text.startswith("3 requests have this value: the bank has 2, it is not known of 1, 0 were not sent.")
    assert "Request 2, 1 min 5 s after the first, a retry: the same caller, method and path: On" in text
    assert "Request 3, 1 min 10 s after the first, another caller, method or path: On" in text
    first, second, third = values["exchanges"]
    assert [one["bank_has_it"] for one in values["exchanges"]] == ["unknown", "yes", "yes"]
    assert (first["retry_of"], second["retry_of"], third["retry_of"]) == ("", first["id"], "")


def test_an_id_names_the_others_with_its_key(tmp_path: Path) -> None:
    """Else an auditor learns of the first try alone that its outcome is not known."""
    one, two = make_log(tmp_path, [record(NOW, index=KEY, **UNKNOWN), record(NOW + 9, index=KEY)])

    text = told(tmp_path, id_in(one))

    assert text.endswith(f"the same Idempotency-Key: {id_in(two)} (2027-01-15 08:00:09+00:00, sent yes).")


def test_a_value_that_is_a_uuid_is_found(tmp_path: Path) -> None:
    """Most clients make their keys so."""
    key = an_exchange().id
    make_log(tmp_path, [record(index=(("Idempotency-Key", key),))])

    assert "The bank has it" in told(tmp_path, key)


def test_a_masked_value_is_found_by_the_plain_one(tmp_path: Path) -> None:
    """Whoever asks has the card number; the log has not."""
    make_log(tmp_path, [record(index=(("Idempotency-Key", "4111111111111111"),))])

    text = told(tmp_path, "4111111111111111")

    assert "The bank has it" in text
    assert "4111111111111111" not in text


@pytest.mark.parametrize(
    ("asked", "settled", "to_do"),
    [
        ([(91, "not_found")], "not_found", "it may be sent again, with the same Idempotency-Key"),
        ([(30, "not_found")], "", "the bank was asked less than 90 s after the end of the request"),
        ([(30, "found"), (91, "not_found")], "found", "don't send it again"),
        ([(91, "not_found"), (120, "found")], "found", "don't send it again"),
        ([(91, "not_found"), (120, "unclear")], "not_found", "it may be sent again"),
        ([(91, "unclear")], "", "the inquiry did not settle it"),
    ],
)
def test_what_the_bank_said_decides(tmp_path: Path, asked: list[tuple[float, str]], settled: str, to_do: str) -> None:
    """Once found is found; "not found" counts only when the bank can no longer be working on it."""
    unknown = record(NOW, finished=100.5, **UNKNOWN)
    inquiries = [inquiry(id_in(unknown), NOW + 0.5 + after, verdict=verdict) for after, verdict in asked]
    make_log(tmp_path, [unknown, *inquiries])

    [one] = json.loads(run("why", id_in(unknown), "--json", cwd=tmp_path).stdout)["exchanges"]

    assert one["settled"] == settled
    assert to_do in one["next_step"]
    assert [each["verdict"] for each in one["inquiries"]] == [verdict for _, verdict in asked]
    opened = run("logs", "search", "--sent", "unknown", "--open", "--json", cwd=tmp_path).stdout
    assert (id_in(unknown) in opened) is not bool(settled)
    if settled == "not_found":
        assert "a request that is still on its way could arrive later" in one["text"]


@pytest.mark.parametrize("elsewhere", [{"upstream_url": "https://b"}, {"client_digest": "c"}, {"upstream_url": ""}])
def test_what_somebody_else_said_decides_nothing(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    """An instance of an earlier version that shares the log asks whoever has the name; its inquiry says no URL."""
    unknown = record(NOW, finished=100.5, **UNKNOWN)
    asked = [inquiry(id_in(unknown), NOW + 120, verdict=one, **elsewhere) for one in ("found", "not_found")]
    make_log(tmp_path, [unknown, *asked])

    [one] = json.loads(run("why", id_in(unknown), "--json", cwd=tmp_path).stdout)["exchanges"]

    assert (one["settled"], "the inquiry did not settle it" in one["next_step"]) == ("", True)
    assert id_in(unknown) in run("logs", "search", "--sent", "unknown", "--open", "--json", cwd=tmp_path).stdout


@pytest.mark.parametrize("by_id", [True, False])
def test_a_request_in_flight_is_told_by_its_intent(tmp_path: Path, by_id: bool) -> None:  # noqa: FBT001
    """Nobody knows yet; that nothing was found would be wrong."""
    make_log(tmp_path, [])
    exchange = an_exchange(index=KEY)

    async def asked() -> str:
        async with open_journal(tmp_path / DATA) as journal:
            await intend(journal, exchange)
            return await asyncio.to_thread(told, tmp_path, exchange.id if by_id else "key-1")

    text = asyncio.run(asked())

    assert "It was to be sent once: at" in text
    assert "It is not known whether the bank has it: it has no end yet" in text
    assert "ask again when `exchange_timeout` has passed" in text


def test_a_record_replaces_its_intent(tmp_path: Path) -> None:
    """Both may be on the host."""
    make_log(tmp_path, [])
    exchange = an_exchange(index=KEY)

    async def asked() -> str:
        async with open_journal(tmp_path / DATA) as journal:
            await intend(journal, exchange)
            journal.finish(exchange)
        return await asyncio.to_thread(told, tmp_path, "key-1")

    assert "The bank has it: it answered." in asyncio.run(asked())


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """With 1; which values can be asked for is told."""
    (line,) = make_log(tmp_path, [operation()])

    missing = run("why", "nothing", cwd=tmp_path)
    other = run("why", id_in(line), cwd=tmp_path)

    assert missing.returncode == 1
    assert "Idempotency-Key" in missing.stderr
    assert (other.returncode, "this is no request" in other.stderr) == (1, True)
    assert run("why", cwd=tmp_path).returncode == 2
    assert run("why", "x", "--key", "payproxy.toml", cwd=tmp_path).returncode == 2


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Callers choose paths and values; and none of them can end a line of a statement."""
    make_log(tmp_path, [record(path="/\x1b[31m", index=(("Idempotency-Key", "x\nsignature: \x1by"),))])
    checkpoint_key(tmp_path / DATA, entropy=SystemEntropy())

    out = run("why", "x\nsignature: \x1by", "--sign", cwd=tmp_path).stdout

    assert "\x1b" not in out
    assert out.count("\nsignature:") == 1


def test_a_signed_statement_is_verified(tmp_path: Path) -> None:
    """By this data directory's key, or by the public key that the auditor has kept."""
    make_log(tmp_path, [record(index=KEY)])
    checkpoint_key(tmp_path / DATA, entropy=SystemEntropy())
    signed = run("why", "key-1", "--sign", cwd=tmp_path).stdout
    (tmp_path / "statement").write_text(signed)
    (tmp_path / "public").write_text(next(line for line in signed.splitlines() if line.startswith("public_key: ")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = checkpoint_key(elsewhere, entropy=SystemEntropy())
    (tmp_path / "other").write_text(other.public)

    here = run("why", "--verify", "statement", cwd=tmp_path)
    there = run("why", "--verify", "../statement", "--key", "../public", "--json", cwd=elsewhere)
    foreign = run("why", "--verify", "statement", "--key", "other", cwd=tmp_path)

    assert (here.returncode, "signed by this data directory's key" in here.stdout) == (0, True)
    assert "subject: why key-1" in here.stdout
    assert json.loads(there.stdout)["valid"] is True
    assert (foreign.returncode, "NOT by the key given" in foreign.stdout) == (1, True)


def test_a_changed_statement_is_refused(tmp_path: Path) -> None:
    """With 1."""
    make_log(tmp_path, [record(index=KEY)])
    checkpoint_key(tmp_path / DATA, entropy=SystemEntropy())
    signed = json.loads(run("why", "key-1", "--sign", "--json", cwd=tmp_path).stdout)["signed"]
    (tmp_path / "statement").write_text(signed.replace("nothing", "everything"))

    done = run("why", "--verify", "statement", cwd=tmp_path)

    assert done.returncode == 1
    assert "the signature is not valid" in done.stderr


def test_without_a_key_it_cannot_be_signed(tmp_path: Path) -> None:
    """None is made for it: nobody would know it."""
    make_log(tmp_path, [record(index=KEY)])

    done = run("why", "key-1", "--sign", cwd=tmp_path)

    assert done.returncode == 1
    assert "can't be signed" in done.stderr
