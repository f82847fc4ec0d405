import base64
import json
from pathlib import Path

import pytest

from proxy.simulator.faults import Fault, FaultKind
from proxy.simulator.received import RawHeaders, Received, RequestLog, basic, bearer, without_credentials


def request(target: str = "/a?b", **other: object) -> Received:
    """Return a received request."""
    return Received(when=1.0, port=80, method="GET", target=target, headers=((b"A", b"\xe9"),), **other)  # type: ignore[arg-type]


def test_the_log_is_bounded_and_counts_on() -> None:
    """Only the last are kept; counts by path, without the query, are of all."""
    log = RequestLog(keep=2)
    for number in range(5):
        log.arrived(request(f"/a?{number}"))

    assert [each.number for each in log.requests] == [4, 5]
    assert (log.total, log.by_path) == (5, {"/a": 5})
    log.clear()
    assert (log.total, len(log.requests), log.by_path) == (0, 0, {})


def test_the_journal_holds_a_request_at_once(tmp_path: Path) -> None:
    """A witnessed request is in the file before anything else happens, and appended to what was there."""
    path = tmp_path / "witness.jsonl"
    for number in range(2):
        log = RequestLog(journal=path)
        log.append_to_journal(request(f"/{number}"))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[-1]["target"] == f"/{number}"
        log.close()

    assert len(lines) == 2


def test_a_log_without_journal_witnesses_nothing() -> None:
    """Without a file nothing is written and closing is no error."""
    log = RequestLog()
    log.append_to_journal(request())
    log.close()


def test_headers_are_found_in_any_case() -> None:
    """And their bytes read as Latin-1, so that none is lost."""
    assert request().header("a") == "é"
    assert request().header("b") is None
    assert request().as_dict()["headers"] == [["A", "é"]]


def test_faults_met_are_noted() -> None:
    """In the order in which they were met."""
    received = request()
    received.meets([Fault(kind=FaultKind.SLOW), Fault(kind=FaultKind.RESET)])

    assert received.fault == "slow reset"


@pytest.mark.parametrize("value", [b"Bearer canary", b"canary", b"Basic canary", b"Bearer  canary"])
def test_a_credential_is_hidden(value: bytes) -> None:
    """Whatever Authorization held, scheme and fingerprint are left."""
    headers, mark = without_credentials(((b"X", b"1"), (b"AUTHORIZATION", value), (b"Y", b"2")))

    assert b"canary" not in b"".join(v for _, v in headers)
    assert [name for name, _ in headers] == [b"X", b"AUTHORIZATION", b"Y"]
    assert len(mark) == 16
    assert headers[1][1].endswith(mark.encode())


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        (((b"Authorization", b"Bearer t"),), "t"),
        (((b"authorization", b"bearer t"),), "t"),
        (((b"Authorization", b"Basic t"),), ""),
        (((b"Authorization", b"Bearer t"), (b"Authorization", b"Bearer t")), ""),
        ((), ""),
    ],
)
def test_one_bearer_is_a_bearer(headers: RawHeaders, token: str) -> None:
    """Any case of the scheme; two of them are none."""
    assert bearer(headers) == token


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"Basic " + base64.b64encode(b"a:b:c"), ("a", "b:c")),
        (b"basic " + base64.b64encode(b"a:"), ("a", "")),
        (b"Basic " + base64.b64encode(b"ab"), None),
        (b"Basic " + base64.b64encode(b"\xff:a"), None),
        (b"Basic ???", None),
        (b"Bearer x", None),
    ],
)
def test_basic_is_read_strictly(value: bytes, parts: tuple[str, str] | None) -> None:
    """The first colon divides; what is no base64 or no UTF-8 is nothing."""
    assert basic(((b"Authorization", value),)) == parts
