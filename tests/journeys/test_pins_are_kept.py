"""What keeps retries on their side when files, disks and the keeper fail: said, and never taken for nothing."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.journeys.caller import Answer, Connection, Request, connected
from tests.journeys.conftest import Start
from tests.journeys.moved import Moved, moved
from tests.journeys.strace import injected
from tests.journeys.two_banks import hangs, pays, two_banks
from tests.journeys.waiting import until

KEPT_ALIVE = 24

Fails = Callable[[Moved], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def place_taken(site: Moved) -> AsyncIterator[None]:
    """Have a folder where the weights are written to, for the block."""
    path = site.directory / "data" / "migrations.json"
    path.unlink(missing_ok=True)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()


@asynccontextmanager
async def disk_full(site: Moved) -> AsyncIterator[None]:
    """Have no room for what is written of the weights, for the block."""
    data = site.directory / "data"
    only = [data / "migrations.json", data / ".migrations.json.new"]
    async with injected(
        site.instance.pid, "write,pwrite64,openat,rename", "error=ENOSPC", output=site.directory / "strace", only=only
    ):
        yield


@pytest.mark.parametrize("fails", [place_taken, disk_full])
async def test_a_rollback_that_cannot_be_written_is_said(tmp_path: Path, start: Start, fails: Fails) -> None:
    """The command ends with 1 and says what holds and until when, `/readyz?verbose` too; it is written later."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        async with fails(site):
            code, said = await site.migration("rollback", "payments", "--reason", "too soon")

            assert code == 1, said
            assert "migrations.json" in said
            assert re.search(r"\b0\b", said)
            assert "restart" in said
            await until(lambda: _is_on(site, "legacy"), otherwise="it did not go back at once")
            verbose = await site.verbose()
            assert "[!]migrations degraded" in verbose
            assert "migrations.json" in verbose

        await until(lambda: _is_well(site), otherwise="it was not written in the end")
        await site.restart()
        [one] = (await site.instance.status())["migrations"]
        assert one["weight"] == 0


async def test_a_finish_that_cannot_be_written_is_said(tmp_path: Path, start: Start) -> None:
    """Else the table would be taken away, and the next start would know nothing of it."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        async with place_taken(site):
            code, said = await site.migration("finish", "payments", "--reason", "over")
        assert code == 1, said
        assert "migrations.json" in said


async def test_without_the_keeper_nobody_changes_sides(tmp_path: Path, start: Start) -> None:
    """Killed after a rollback: the worker refuses every payment that names a key, or knows where its first try is."""
    async with two_banks() as banks, contextlib.AsyncExitStack() as stack:
        site = await moved(tmp_path, banks, start)
        lost = await stack.enter_async_context(connected(site.instance.address))
        banks.modern.decide = hangs
        lost.send(pays("lost"))
        await until(lambda: banks.modern.hanging, otherwise="modern did not get it")
        await site.roll_back()

        came = await _asked_without_keeper(site, stack, "lost")

        assert {(one.status, _code(one)) for one in came.values()} == {(503, "side_unknown")}
        assert {one.json["sent_upstream"] for one in came.values()} == {"no"}
        assert {key: banks.at(key) for key in came} == {key: "modern" if key == "lost" else "" for key in came}
        assert not banks.legacy.accepted["lost"]


async def test_without_the_keeper_who_never_moved_goes_on(tmp_path: Path, start: Start) -> None:
    """No side can have changed within 24 hours, so the worker serves what still comes before it stops."""
    async with two_banks() as banks, contextlib.AsyncExitStack() as stack:
        site = await moved(tmp_path, banks, start, weight=0)

        came = await _asked_without_keeper(site, stack, "first")

        assert {(one.status, banks.at(key)) for key, one in came.items()} == {(201, "legacy")}


async def test_pins_moved_away_are_begun_anew_at_once(tmp_path: Path, start: Start) -> None:
    """What is pinned after that is in a new file in the old place, and so survives a restart."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.fail("before")
        path = tmp_path / "data" / "retry-pins.jsonl"
        path.rename(tmp_path / "away.jsonl")

        await site.fail("later")
        await site.roll_back()
        await site.restart()

        assert (await site.pay("later")).status == 200
        assert banks.at("later") == "modern"


@pytest.mark.parametrize("content", [b"x" * 500, b"\0" * 500, b'{"format": 1'], ids=["letters", "nulls", "half a line"])
async def test_pins_without_a_whole_first_line_are_unreadable(tmp_path: Path, start: Start, content: bytes) -> None:
    """Not taken for an empty file: it is named, and payments with a key are refused, as sides have changed today."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.fail("lost")
        await site.roll_back()
        assert await site.instance.stop() == 0
        path = tmp_path / "data" / "retry-pins.jsonl"
        path.write_bytes(content)

        site.instance = await start(site.configuration)

        verbose = await site.verbose()
        assert f"[!]migrations degraded: {path}" in verbose
        for key in ("lost", "new"):
            answer = await site.pay(key)
            assert (answer.status, _code(answer)) == (503, "side_unknown")
            assert answer.json["sent_upstream"] == "no"
        assert banks.at("lost") == "modern"
        assert banks.at("new") == ""
        assert path.read_bytes() == content


async def _asked_without_keeper(site: Moved, stack: contextlib.AsyncExitStack, first: str) -> dict[str, Answer]:
    """Kill the keeper and return by key the answers to payments, *first* among them, on connections kept alive.

    None is sent before the worker knows that the keeper is gone; connections that it has closed by then have none.
    """
    kept = [await stack.enter_async_context(connected(site.instance.address)) for _ in range(KEPT_ALIVE)]
    assert [(await each.ask(Request(path="/payment/x"))).status for each in kept] == [200] * KEPT_ALIVE
    await site.instance.kill()
    while kept and not await _knows(kept.pop()):
        pass
    keys = [first, *(f"more-{number}" for number in range(1, len(kept)))]
    came = await asyncio.gather(*(_answer(each, key) for each, key in zip(kept, keys, strict=False)))
    found = {key: one for key, one in zip(keys, came, strict=False) if one is not None}
    assert found, "all connections were closed before anything was asked: nothing was shown"
    return found


def _code(answer: Answer) -> str:
    return str(answer.json.get("code", ""))


async def _knows(connection: Connection) -> bool:
    """Return whether the worker knows that its keeper is gone: it keeps no connection alive any more."""
    try:
        answer = await connection.ask(Request(path="/payment/x"))
    except (OSError, EOFError):
        return True
    return answer.headers.get("connection") == "close"


async def _answer(connection: Connection, key: str) -> Answer | None:
    """Return the answer to the payment *key*, None if the connection was closed before it."""
    try:
        return await connection.ask(pays(key))
    except (OSError, EOFError):
        return None


async def _is_on(site: Moved, side: str) -> bool:
    key = f"on-{side}-{len(site.banks.modern.events)}-{len(site.banks.legacy.events)}"
    return (await site.pay(key)).status == 201 and site.banks.at(key) == side


async def _is_well(site: Moved) -> bool:
    return "[+]migrations ok" in await site.verbose()
