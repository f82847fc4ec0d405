import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.errors import LogUnavailable
from proxy.events import MintFailed, TokenMinted, WorkerStarted
from proxy.keeper.audit_log import AuditLog
from proxy.records.audit_records import Operation
from tests.records.support import CONTEXT, SPOOL_BYTES, MemorySink, journal_lines, running_shipper, until

MINTED = TokenMinted(credential="c", audience="a", mint=1, fingerprint="f", seconds=0.1, lifetime=9.0, expires=1.8e9)
FAILED = MintFailed(credential="c", audience="a", code="token_refused", error="e", cause="x", retry_in=1.0)
OPERATION = Operation(who="root", proof="unix socket", what="POST /x")


@pytest.fixture
async def notary(tmp_path: Path) -> AsyncIterator[AuditLog]:
    """Yield a notary with an open journal."""
    made = make(tmp_path)
    await made.open()
    yield made
    await made.close()


def make(directory: Path) -> AuditLog:
    """Return a notary that is not open yet."""
    return AuditLog(
        directory,
        context=CONTEXT,
        version="0.1",
        spool_bytes=SPOOL_BYTES,
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )


def written(directory: Path, notary: AuditLog) -> list[dict[str, Any]]:
    """Return what stands in its journal."""
    return journal_lines(directory, notary.journal_name)


async def may_be_done(notary: AuditLog) -> bool:
    """Return whether an operation could be recorded."""
    try:
        await notary.operated(OPERATION)
    except LogUnavailable:
        return False
    return True


async def test_tokens_are_written_down_and_other_events_are_not(tmp_path: Path, notary: AuditLog) -> None:
    """In the order in which they were told."""
    for event in (MINTED, WorkerStarted(worker=0, pid=1), FAILED):
        notary.observe(event)

    await until(lambda: len(written(tmp_path, notary)) == 2)

    assert [record["event"] for record in written(tmp_path, notary)] == ["minted", "refused"]


async def test_an_operation_is_on_disk_when_it_returns(tmp_path: Path, notary: AuditLog) -> None:
    """Nothing is waited for."""
    await notary.operated(OPERATION)

    [record] = written(tmp_path, notary)
    assert (record["kind"], record["who"]) == ("operation", "root")


async def test_each_new_configuration_is_written_once(tmp_path: Path, notary: AuditLog) -> None:
    """Workers that were replaced under the same one are no news; later records name the digest."""
    notary.configured({"a": 1}, digest="1" * 16)
    notary.configured({"a": 1}, digest="1" * 16)
    notary.configured({"a": 2}, digest="2" * 16)
    await notary.operated(OPERATION)

    kinds = [(record["kind"], record["config_digest"]) for record in written(tmp_path, notary)]
    assert kinds == [("configuration", "1" * 16), ("configuration", "2" * 16), ("operation", "2" * 16)]


async def test_what_can_not_be_recorded_may_not_be_done(tmp_path: Path) -> None:
    """An operation is refused while the journal can't be written; tokens wait and are written later."""
    (tmp_path / "journal").write_text("in the way")
    notary = make(tmp_path)
    await notary.open()
    try:
        notary.observe(MINTED)
        assert not await may_be_done(notary)

        (tmp_path / "journal").unlink()
        await until(lambda: may_be_done(notary))
    finally:
        await notary.close()

    assert [record["kind"] for record in written(tmp_path, notary)] == ["token", "operation"]


async def test_the_shipper_takes_it_like_a_workers_journal(tmp_path: Path) -> None:
    """Also from a keeper that was killed; its files go."""
    sink = MemorySink()
    first = make(tmp_path)
    await first.open()
    async with running_shipper(tmp_path, sink) as shipper:
        await first.operated(OPERATION)
        await until(lambda: sink.records)
        first.observe(MINTED)
        await first.close()
        await shipper.worker_ended(first.journal_name)

    assert [record["kind"] for record in sink.records] == ["operation", "token"]
    assert not list((tmp_path / "journal").iterdir())


async def test_its_journal_is_small(tmp_path: Path, notary: AuditLog) -> None:
    """Not the share of the spool that a worker's takes."""
    await notary.operated(OPERATION)

    [path] = (tmp_path / "journal").glob("*.jsonl")
    assert path.stat().st_size == 1024 * 1024


async def test_keys_are_made_once(tmp_path: Path, notary: AuditLog) -> None:
    """Both of the data directory's, private."""
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.key")}  # noqa: ASYNC240 - the test's own
    second = make(tmp_path)

    assert set(before) == {"masking.key", "checkpoint.key"}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.key")} == before  # noqa: ASYNC240 - the test's own
    assert json.loads(second.checkpoints.start())["public_key"] == json.loads(notary.checkpoints.start())["public_key"]
