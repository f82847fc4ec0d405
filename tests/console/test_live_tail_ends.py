import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proxy.console.live_records import AT_ONCE
from proxy.console.live_tail import LOOK_SECONDS, UNREAD_SECONDS
from proxy.console.sessions import IDLE_SECONDS
from proxy.keeper import admin_connections
from proxy.keeper.admin_connections import AdminConnection
from tests.console.following import EVENTS, following
from tests.console.support import OPERATORS, Stage, csrf_of, sign_in
from tests.keeper.support import get
from tests.records.kept import record
from tests.records.support import NOW, until
from tests.support.clock import ManualClock


async def test_with_operators_a_tail_needs_a_session_that_may_be_a_viewers(tmp_path: Path) -> None:
    """Without one the stream is refused, and not led to the form, which would be no stream."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    async with stage.browser() as browser:
        before = await browser.get(EVENTS)
        await sign_in(browser, view="1")
        async with following(browser) as events:
            await events.reached()

    assert before.status_code == 403
    assert events.answer.status_code == 200


@pytest.mark.parametrize("how", ["sign out", "expiry"])
async def test_a_session_that_ends_ends_its_tails(tmp_path: Path, how: str) -> None:
    """Before another record is sent; an open tail is no use that keeps an idle session."""
    clock = ManualClock()
    stage = Stage(directory=tmp_path, operators=OPERATORS, clock=clock)
    async with stage.browser() as browser:
        await sign_in(browser)
        csrf = await csrf_of(browser)
        async with following(browser) as events:
            await events.reached()
            if how == "sign out":
                await browser.post("/console/sign-out", data={"csrf": csrf})
            else:
                await clock.advance(IDLE_SECONDS)
            stage.live.add([record(NOW)])
            assert await events.next() == ("end", {"why": "session"})
            with pytest.raises(StopAsyncIteration):
                await events.next()
        await until(lambda: not stage.live.followers)


async def test_what_the_script_fetches_by_itself_keeps_no_session(tmp_path: Path) -> None:
    """Else a page that somebody left open would stay signed in all day."""
    clock = ManualClock()
    stage = Stage(directory=tmp_path, operators=OPERATORS, clock=clock)
    async with stage.browser() as browser:
        await sign_in(browser)
        await clock.advance(IDLE_SECONDS - 1)
        fetched = await browser.get("/console/", headers={"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"})
        await clock.advance(1)
        after = await browser.get("/console/")

    assert (fetched.status_code, after.status_code) == (200, 303)


async def test_a_tail_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    """It gets nothing more from a bounded size on, is told how many it has missed, and ends after a while."""
    clock = ManualClock()
    stage = Stage(directory=tmp_path, clock=clock)
    async with unread(stage):
        [follower] = stage.live.followers
        await until(lambda: fills_up(stage))
        await clock.advance(LOOK_SECONDS)
        assert stage.live.followers == [follower]
        await clock.advance(UNREAD_SECONDS)
        await until(lambda: not stage.live.followers)


async def test_who_reads_slowly_is_told_how_many_were_dropped(tmp_path: Path) -> None:
    """And goes on with the newest."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser, following(browser) as events:
        await events.reached()
        [follower] = stage.live.followers
        sent = counted = 0
        while not follower._dropped:
            sent += AT_ONCE
            stage.live.add([record(NOW, path="/" + "x" * 500) for _ in range(AT_ONCE)])
            await asyncio.sleep(0)
        gaps = 0
        while counted < sent:
            reading = asyncio.ensure_future(events.next())
            while not reading.done():
                stage.live.wake()  # as each LOOK_SECONDS
                await asyncio.sleep(0.001)
            name, data = await reading
            counted += data["records"] if name == "gap" else 1
            gaps += name == "gap"

    assert (counted, gaps) == (sent, 1)


async def test_too_many_tails_are_refused_and_take_no_place_of_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a time to try again; a place is free as soon as a tail has gone."""
    monkeypatch.setattr(admin_connections, "MOST_STREAMS", 70)
    stage = Stage(directory=tmp_path)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with stage.server() as server, contextlib.AsyncExitStack() as stack:
        host, port = server.addresses[0]
        browser = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60, trust_env=False, limits=limits)
        await stack.enter_async_context(browser)
        async with contextlib.AsyncExitStack() as tails:
            opened = [await tails.enter_async_context(following(browser)) for _ in range(70)]
            for events in opened:
                await events.reached()
            refused = await browser.get(EVENTS)
            assert (await get(server.addresses[0], "/livez")).status == 200
        await until(lambda: not stage.live.followers)
        async with following(browser) as events:
            await events.reached()

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "15")
    assert "Too many live tails" in refused.json()["detail"]


async def test_a_listener_that_stops_ends_its_tails(tmp_path: Path) -> None:
    """At once, with an event that says why."""
    stage = Stage(directory=tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(stage.server())
        host, port = server.addresses[0]
        async with (
            httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60, trust_env=False) as browser,
            following(browser) as events,
        ):
            await events.reached()
            await stack.aclose()
            assert await events.next() == ("end", {"why": "stop"})
    assert stage.live.followers == []


@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "evil.example"}, 421), ({"Sec-Fetch-Site": "cross-site"}, 403)]
)
async def test_another_site_follows_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """As no page of it may read ours."""
    async with Stage(directory=tmp_path).browser() as browser:
        assert (await browser.get(EVENTS, headers=headers)).status_code == status


@asynccontextmanager
async def unread(stage: Stage) -> AsyncIterator[tuple[socket.socket, set[AdminConnection]]]:
    """Open a tail that nobody reads; yield its socket and the listener's streams once it is among them."""
    async with stage.server() as server:
        with socket.create_connection(server.addresses[0]) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await until(lambda: stage.live.followers)
            yield peer, server._listeners[-1].streams


async def test_the_end_of_a_tail_that_nobody_reads_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again after the time that any answer has."""
    monkeypatch.setattr(admin_connections, "ANSWER_SECONDS", 0.05)
    stage = Stage(directory=tmp_path)
    async with unread(stage) as (_, streams):
        await until(lambda: fills_up(stage))
        stage.live.end("reload")
        await until(lambda: not streams)


async def test_who_sends_more_on_a_tail_is_cut(tmp_path: Path) -> None:
    """Requests behind it would wait for its end, and their number has no bound."""
    stage = Stage(directory=tmp_path)
    async with unread(stage) as (peer, streams):
        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: not streams)


async def fills_up(stage: Stage) -> bool:
    """Let records come; return whether the one follower has dropped some."""
    [follower] = stage.live.followers
    stage.live.add([record(NOW, path="/" + "x" * 500) for _ in range(AT_ONCE)])
    await asyncio.sleep(0)
    return bool(follower._dropped)  # that it does not read is seen nowhere else
