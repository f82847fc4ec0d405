"""Which exchanges have to be remembered for their retries: those whose outcome nobody can be sure of."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import timestamp
from proxy.errors import Sent
from proxy.records.mask import Mask
from proxy.records.merge import Merger
from proxy.records.record import RecordBuilder
from proxy.records.segment import segment_path
from proxy.records.stream import Stream
from proxy.records.unanswered import unanswered_exchange, uncertain
from proxy.request_summary import RequestSummary
from tests.records.support import CONTEXT, NOW, a_choice, an_attempt, an_exchange
from tests.support.clock import ManualClock

BUILDER = RecordBuilder(CONTEXT, Mask(bytes(32)))
RETRY = "0123456789abcdef" * 2


def retried(**changes: Any) -> RequestSummary:
    """Return an exchange with a retry key."""
    return an_exchange(retry=RETRY, side="modern", upstream="bank", **changes)


class Reader:
    """A merger, and what it found uncertain."""

    def __init__(self, directory: Path) -> None:
        (directory / "journal").mkdir()
        self.directory = directory
        self.found: list[dict[str, Any]] = []
        self.stream = Stream(directory / "stream")
        self.merger = Merger(
            directory,
            self.stream,
            clock=ManualClock(),
            delivered=lambda: self.stream.end,
            uncertain=self.found.extend,
        )
        self.merger.open()

    def journal(self, *lines: bytes) -> None:
        """Write the journal of a worker that has ended."""
        with segment_path(self.directory / "journal", "w1", 1).open("ab") as file:
            file.write(b"".join(lines))


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": Sent.UNKNOWN, "status": 504, "origin": "proxy"},
        {"sent": Sent.UNKNOWN, "status": 0},
        {"status": 500},
        {"status": 503},
        {"caller_left": True, "status": 201},
        {"code": "upstream_reset", "status": 200},
    ],
    ids=str,
)
def test_an_uncertain_end_is_told(changes: dict[str, Any]) -> None:
    """Unknown, a 5xx of the bank, or an answer that its caller did not hear whole."""
    told = uncertain(BUILDER.exchange(retried(**changes)))

    assert told is not None
    assert {name: told[name] for name in ("retry", "side", "upstream")} == {
        "retry": RETRY,
        "side": "modern",
        "upstream": "bank",
    }
    assert told["time"].endswith("Z")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 201},
        {"status": 422},
        {"sent": Sent.NO, "status": 503, "origin": "proxy"},
        {"sent": Sent.NO, "caller_left": True, "status": 0},
    ],
    ids=str,
)
def test_a_certain_end_is_not(changes: dict[str, Any]) -> None:
    """A response that the caller got counts as in flight for a while; what was never sent does not."""
    told = uncertain(BUILDER.exchange(retried(**changes)))

    if changes.get("sent") is Sent.NO:
        assert told is None
    else:
        assert told is not None
        assert (told["reason"], told["ended"]) == ("in_flight", pytest.approx(NOW + 0.0125))


def test_what_has_just_ended_is_told_with_the_end_of_its_worker(tmp_path: Path) -> None:
    """Its own list of keys in flight ends with its process; a response of the last ten seconds may be unread."""
    reader = Reader(tmp_path)
    ended = [retried(started_wall=NOW + seconds) for seconds in (0, 1, 10.5)]
    reader.journal(*(BUILDER.exchange(one) for one in ended))

    assert reader.merger.pump()

    assert [one["time"] for one in reader.found] == [timestamp(NOW + 1), timestamp(NOW + 10.5)]
    assert {one["reason"] for one in reader.found} == {"in_flight"}


def test_without_a_retry_key_nothing_is_remembered() -> None:
    """No retry could be told from another request; a header called retry is no key."""
    assert uncertain(BUILDER.exchange(an_exchange(status=500))) is None
    assert uncertain(BUILDER.exchange(an_exchange(status=500, index=(("a", "b"), ("retry", "x"))))) is None


def test_a_request_that_went_to_both_sides_is_told_of_the_last() -> None:
    """The modern token was refused, legacy carried it, and its worker died."""
    exchange = retried()
    first = json.loads(BUILDER.intent(exchange, an_attempt()))
    exchange.chosen = a_choice(
        side="legacy", upstream="old-bank", upstream_url="https://old", credential="adfs", client_digest="c"
    )
    second = json.loads(BUILDER.intent(exchange, an_attempt(number=2)))

    record = json.loads(unanswered_exchange([first, second], ended=NOW))

    assert (record["side"], record["upstream"], record["credential"]) == ("legacy", "old-bank", "adfs")
    assert (record["upstream_url"], record["client_digest"]) == ("https://old", "c")
    assert record["retry"] == RETRY
    told = uncertain(unanswered_exchange([first, second], ended=NOW))
    assert told is not None
    assert told["side"] == "legacy"


def test_the_intent_of_an_earlier_version_gets_a_record_too() -> None:
    """It does not say where it was sent, so the record doesn't either."""
    intent = json.loads(BUILDER.intent(an_exchange(), an_attempt()))
    del intent["upstream_url"], intent["client_digest"]

    record = json.loads(unanswered_exchange([intent], ended=NOW))

    assert record["upstream"] == intent["upstream"]
    assert not {"upstream_url", "client_digest"} & record.keys()


def test_a_dead_workers_open_intents_are_told(tmp_path: Path) -> None:
    """With those that it ended uncertainly before; what ended well counts for a while, without a key not at all."""
    reader = Reader(tmp_path)
    lost, ended, fine, plain = retried(), retried(status=502), retried(), an_exchange()
    lines = [BUILDER.intent(one, an_attempt()) for one in (lost, ended, fine, plain)]
    reader.journal(*lines, BUILDER.exchange(ended), BUILDER.exchange(fine))

    assert reader.merger.pump()

    assert sorted(one["reason"] for one in reader.found) == ["answered", "in_flight", "unknown"]
    assert {one["retry"] for one in reader.found} == {RETRY}
    assert reader.merger.pump()
    assert len(reader.found) == 3
    reader.stream.close()


def test_it_is_told_before_it_is_in_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that dies in between tells it again, rather than never."""
    reader = Reader(tmp_path)
    reader.journal(BUILDER.intent(retried(), an_attempt()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", _no_space)
        with pytest.raises(OSError, match="full"):
            reader.merger.pump()
    assert len(reader.found) == 1
    reader.merger.end("w1")

    assert reader.merger.pump()

    assert len(reader.found) == 2
    reader.stream.close()


def _no_space(*_: object) -> int:
    raise OSError(28, "full")
