import json
from typing import Any

import pytest

from proxy.entropy import SystemEntropy
from proxy.events import MintFailed, TokenMinted
from proxy.records.audit_records import AuditRecords, Inquiry, Operation, PrintedToken
from proxy.records.query import Indexed, Query
from tests.records.chains import MASK
from tests.records.support import CONTEXT
from tests.support.clock import ManualClock

CARD = "4111 1111 1111 1111"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
MINTED = TokenMinted(
    credential="login", audience="a", mint=3, fingerprint="f" * 16, seconds=0.0123, lifetime=900.0, expires=1.8e9
)
FAILED = MintFailed(
    credential="login", audience="a", code="token_refused", error="invalid_client", cause="400", retry_in=1.25
)


@pytest.fixture
def records() -> AuditRecords:
    """Return builders at a fixed time."""
    return AuditRecords(CONTEXT, mask=MASK, clock=ManualClock(), entropy=SystemEntropy())


def parsed(line: bytes) -> dict[str, Any]:
    """Return the record in *line*."""
    assert line.endswith(b"}\n")
    value: dict[str, Any] = json.loads(line)
    return value


def test_all_begin_alike(records: AuditRecords) -> None:
    """Kind and id first, then what all records have; the digest of the configuration last."""
    lines = [
        records.lifecycle("start"),
        records.configuration({"server": {}}, digest="d" * 16),
        records.minted(MINTED),
        records.mint_failed(FAILED),
        records.operation(Operation(who="root", proof="unix socket", what="POST /x")),
        records.printed(PrintedToken(who="root", credential="c", audience="a", fingerprint="f", lifetime=1.0)),
    ]

    values = [parsed(line) for line in lines]
    assert [value["kind"] for value in values] == [
        "lifecycle", "configuration", "token", "token", "operation", "token"
    ]  # fmt: skip
    for value in values:
        assert list(value)[:6] == ["kind", "id", "version", "time", "environment", "instance"]
        assert list(value)[-1] == "config_digest"
        assert (value["time"], value["instance"]) == ("2027-01-15T08:00:00.000000Z", "host-1")
    assert len({value["id"] for value in values}) == 6


def test_a_configuration_is_named_by_the_records_behind_it(records: AuditRecords) -> None:
    """Until then they name the one before."""
    before = parsed(records.lifecycle("start"))
    configuration = parsed(records.configuration({"environment": "mock", "server": {"workers": 2}}, digest="d" * 16))
    after = parsed(records.minted(MINTED))

    assert before["config_digest"] == CONTEXT.config_digest
    assert configuration["configuration"] == {"environment": "mock", "server": {"workers": 2}}
    assert configuration["config_digest"] == after["config_digest"] == "d" * 16


def test_a_mint_says_what_came_but_no_token(records: AuditRecords) -> None:
    """Lifetimes in seconds, how long it took in milliseconds."""
    value = parsed(records.minted(MINTED))

    assert value["event"] == "minted"
    assert (value["mint"], value["token_fingerprint"], value["lifetime_s"]) == (3, "f" * 16, 900)
    assert (value["duration_ms"], value["expires"]) == (12.3, "2027-01-15T08:00:00.000000Z")


@pytest.mark.parametrize(("code", "event"), [("token_refused", "refused"), ("token_unavailable", "unavailable")])
def test_a_failed_mint_says_whether_it_was_a_refusal(records: AuditRecords, code: str, event: str) -> None:
    """And what the endpoint said, masked."""
    failed = MintFailed(
        credential="login", audience="a", code=code, error=f"no {CARD}", cause=f"said {TOKEN}", retry_in=1.25
    )

    line = records.mint_failed(failed)

    value = parsed(line)
    assert (value["event"], value["code"], value["retry_in_s"]) == (event, code, 1.25)
    assert b"1111 1111" not in line
    assert TOKEN.encode() not in line


def test_an_operation_says_who_how_what_and_why(records: AuditRecords) -> None:
    """What people typed is masked."""
    operation = Operation(
        who="mallory", proof="unix socket", what="POST /api/x", reason=f"for {CARD}", values=(("key", TOKEN),)
    )

    value = parsed(records.operation(operation))

    assert (value["who"], value["proof"], value["what"]) == ("mallory", "unix socket", "POST /api/x")
    assert value["reason"].startswith("for 4111…11#")
    assert value["values"]["key"].startswith("eyJh…")


def test_long_texts_are_cut(records: AuditRecords) -> None:
    """A megabyte of reason is a reason no longer."""
    value = parsed(records.operation(Operation(who="x", proof="y", what="z", reason="a b" * 400_000)))

    assert len(value["reason"]) <= 2049


def test_an_inquiry_is_found_by_its_exchange(records: AuditRecords) -> None:
    """Its id is an index value; what was asked and what the bank said are masked like all else."""
    inquiry = Inquiry(
        exchange="01a22238-4f7c-7e9a-ae97-e7b2631be206", who="anna", route="payments", side="", upstream="bank",
        upstream_url="https://b", credential="login", client_digest="c", audience="a", token_fingerprint="f",
        asked=f"GET /p?id={CARD}", status=0, cause=f"upstream_reset: {TOKEN}", verdict="unclear",
    )  # fmt: skip

    value = parsed(records.inquiry(inquiry))

    assert value["kind"] == "inquiry"
    assert (value["upstream_url"], value["client_digest"]) == ("https://b", "c")
    assert Query(kind="inquiry", indexed=(Indexed("exchange", inquiry.exchange),)).matches(value)
    assert not Query(kind="inquiry", indexed=(Indexed("exchange", "another"),)).matches(value)
    assert CARD not in str(value)
    assert TOKEN not in str(value)
    assert "status" not in value  # else `logs search --status` would take it for a request
