"""Which requests leave an intent, and what a record keeps of their headers."""

from pathlib import Path

import pytest

from proxy.records.mask import Mask
from proxy.records.query import Query, indexed
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
