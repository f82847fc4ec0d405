"""Which requests leave an intent, and what a record keeps of their headers."""

from pathlib import Path

import pytest

from proxy.records.json_line import line
from proxy.records.mask import Mask
from proxy.records.query import Query, indexed
from proxy.records.sinks.row import groups, value_key
from tests.upstream.support import says
from tests.worker.support import proxy
from tests.worker.wire import ask, request

MASK = Mask(bytes(32))


@pytest.mark.parametrize("method", [b"MERGE", b"BREW", b"POSTS"])
async def test_a_method_that_is_no_standard_one_has_an_intent(method: bytes, tmp_path: Path) -> None:
    """Nobody knows what the bank takes it for: it may be a payment."""
    async with proxy(tmp_path) as it:
        await ask(it.port, request(method, body=b"{}"))

        assert [line["method"] for line in it.journal("intent")] == [method.decode()]


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"POST"])
async def test_a_standard_method_has_an_intent_only_where_it_is_set(method: bytes, tmp_path: Path) -> None:
    """The setting alone decides about those."""
    async with proxy(tmp_path, request_log={"intent_methods": ("PUT",)}) as it:
        await ask(it.port, request(method, body=b"{}" if method == b"POST" else b""))

        assert it.bank.requests
        assert not it.journal("intent")


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
async def test_an_index_value_is_found_as_it_was_meant(coding: str, tmp_path: Path) -> None:
    """A caller writes UTF-8 or Latin-1; who searches writes the letters."""
    async with proxy(tmp_path) as it:
        await ask(it.port, request(b"POST", b"/open/a", b"Idempotency-Key: " + "Zürich-7".encode(coding), body=b"{}"))
        (intent,) = it.journal("intent")

    assert intent["index"] == {"Idempotency-Key": "Zürich-7"}
    assert Query(indexed=(indexed("idempotency-key", "Zürich-7", MASK),)).matches(intent)


@pytest.mark.parametrize("status", [b"200 OK", b"503 Busy"])
async def test_the_banks_own_ids_are_kept_and_found(status: bytes, tmp_path: Path) -> None:
    """What it calls the request is what its support asks for; other headers of its answer are not kept."""
    names = ("request-id", "Duplicate-Request")
    answer = b"HTTP/1.1 %b\r\nRequest-ID: b-17\r\nduplicate-request: true\r\nX-Other: 1\r\nContent-Length: 0\r\n\r\n"
    async with proxy(tmp_path, says(answer % status), request_log={"index_answer_headers": names}) as it:
        for _ in range(2):  # the second time, the lines that are not kept are known
            await ask(it.port, request(b"POST", b"/open/a", b"Idempotency-Key: order-1", body=b"{}"))
    record, again = it.journal("exchange")

    assert record["answer_index"] == again["answer_index"] == {"Request-ID": "b-17", "duplicate-request": "true"}
    for name, value in (("request-id", "b-17"), ("Duplicate-Request", "true"), ("idempotency-key", "order-1")):
        assert Query(indexed=(indexed(name, value, MASK),)).matches(record)
    keys = {entry[:8] for group in groups([line(record)[:-1]]) for entry in group.entries}
    assert {value_key(b"b-17"), value_key(b"true"), value_key(b"order-1")} <= keys


async def test_without_a_setting_nothing_of_an_answer_is_kept(tmp_path: Path) -> None:
    """Nor a member for it."""
    async with proxy(tmp_path, says(b"HTTP/1.1 200 OK\r\nRequest-ID: b-17\r\nContent-Length: 0\r\n\r\n")) as it:
        await ask(it.port, request(b"POST", body=b"{}"))
    (record,) = it.journal("exchange")

    assert "answer_index" not in record
