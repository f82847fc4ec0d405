import asyncio
import io
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from proxy.entropy import SystemEntropy
from proxy.simulator.faults import FaultKind
from proxy.simulator.server import Bank, simulator
from tests.simulator.support import bearing, mock_token
from tests.support.clock import ManualClock, settle

PAYMENTS = "/payment/v2/payments"


@pytest.fixture
async def slow_bank() -> AsyncIterator[tuple[Bank, ManualClock]]:
    """A simulator in which time stands still."""
    clock = ManualClock()
    async with simulator(clock=clock, entropy=SystemEntropy()) as bank:
        yield bank, clock


async def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition lies in the world, which has no events
            await asyncio.sleep(0.001)


async def connect(bank: Bank) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the simulator."""
    host, _, port = bank.url.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def raw(bank: Bank, data: bytes) -> bytes:
    """Send bytes and return everything until the connection ends, or raise ConnectionResetError."""
    reader, writer = await connect(bank)
    try:
        writer.write(data)
        async with asyncio.timeout(60):
            return await reader.read(-1)
    finally:
        writer.close()


def payment(token: str, body: bytes = b"{}", *, sent: bytes | None = None) -> bytes:
    """Return a raw payment request, of whose body only *sent* is there."""
    head = f"POST {PAYMENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + (body if sent is None else sent)


@pytest.mark.parametrize(("kind", "executed"), [(FaultKind.DOWN, 0), (FaultKind.CLOSE, 1)])
async def test_a_connection_is_closed_without_an_answer(
    bank: Bank, session: aiohttp.ClientSession, kind: FaultKind, executed: int
) -> None:
    """Before anything was executed, or after."""
    token = await mock_token(session, bank)
    bank.world.faults.set(kind, PAYMENTS)

    assert await raw(bank, payment(token)) == b""
    assert bank.world.accepted["k"] == executed
    assert [(each.status, each.fault) for each in bank.world.seen(PAYMENTS)] == [(0, kind)]


@pytest.mark.parametrize(("kind", "executed"), [(FaultKind.RESET_BEFORE, 0), (FaultKind.RESET, 1)])
async def test_a_connection_is_reset(
    bank: Bank, session: aiohttp.ClientSession, kind: FaultKind, executed: int
) -> None:
    """With a real RST, before anything was executed or after."""
    token = await mock_token(session, bank)
    bank.world.faults.set(kind, PAYMENTS)

    with pytest.raises(ConnectionResetError):
        await raw(bank, payment(token))

    assert bank.world.accepted["k"] == executed
    assert bank.world.seen(PAYMENTS)[0].complete == bool(executed)


async def test_an_answer_is_cut_in_half(bank: Bank, session: aiohttp.ClientSession) -> None:
    """The head promises more bytes than come; the payment was made."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.TRUNCATED, PAYMENTS)

    head, _, body = (await raw(bank, payment(token))).partition(b"\r\n\r\n")

    promised = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert 0 < len(body) < promised
    assert bank.world.accepted["k"] == 1


@pytest.mark.parametrize(("query", "end"), [("size=1000000", "short"), ("size=1000000&chunked=1", "no last chunk")])
async def test_a_report_is_cut(bank: Bank, session: aiohttp.ClientSession, query: str, end: str) -> None:
    """With a Content-Length that isn't reached, or chunks without the last."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.TRUNCATED, "/api/v1")
    head = f"GET /api/v1/report-files/1?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"

    answer = await raw(bank, head.encode())

    assert 3 * 65536 < len(answer) < 1000000, end
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_slow_answer_is_late_but_executed(slow_bank: tuple[Bank, ManualClock]) -> None:
    """The payment is made at once; the answer comes when its time has come."""
    bank, clock = slow_bank
    async with aiohttp.ClientSession() as session:
        token = await mock_token(session, bank)
        bank.world.faults.set(FaultKind.SLOW, PAYMENTS, seconds=70)
        calling = asyncio.create_task(raw(bank, payment(token).replace(b"Host", b"Connection: close\r\nHost")))
        await until(lambda: bank.world.accepted["k"] == 1)
        await clock.advance(69)
        assert not calling.done()
        await clock.advance(1)

        assert (await calling).startswith(b"HTTP/1.1 201 ")


async def test_a_stalled_answer_stops_half_way(slow_bank: tuple[Bank, ManualClock]) -> None:
    """Half comes, then nothing, then the end."""
    bank, clock = slow_bank
    async with aiohttp.ClientSession() as session:
        token = await mock_token(session, bank)
        bank.world.faults.set(FaultKind.STALLED, PAYMENTS, seconds=70)
        async with session.post(bank.url + PAYMENTS, data=b"{}", headers=bearing(token)) as response:
            assert await response.content.readany()
            rest = asyncio.create_task(response.read())
            await settle()
            assert not rest.done()
            await clock.advance(70)
            with pytest.raises(aiohttp.ClientPayloadError):
                await rest


async def test_a_body_can_be_left_unread(slow_bank: tuple[Bank, ManualClock]) -> None:
    """An upload stalls while the simulator doesn't read, and goes on afterwards."""
    bank, clock = slow_bank
    async with aiohttp.ClientSession() as session:
        token = await mock_token(session, bank)
        bank.world.faults.set(FaultKind.UNREAD, PAYMENTS, seconds=70)
        data = io.BytesIO(b"x" * (16 << 20))
        calling = asyncio.create_task(session.post(bank.url + PAYMENTS, data=data, headers=bearing(token)))
        await until(lambda: len(bank.world.seen(PAYMENTS)) == 1)
        await settle()
        assert not bank.world.seen(PAYMENTS)[0].complete
        await clock.advance(70)
        async with await calling as response:
            assert response.status == 201

    assert bank.world.seen(PAYMENTS)[0].body_size == 16 << 20


async def test_an_answer_can_come_before_the_body(bank: Bank, session: aiohttp.ClientSession) -> None:
    """413 while the upload has hardly begun, then the connection is over."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.STATUS, PAYMENTS, status=413, early=True)

    reader, writer = await connect(bank)
    writer.write(payment(token, b"x" * 1000, sent=b"x"))
    async with asyncio.timeout(60):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert (bank.world.seen(PAYMENTS)[0].complete, bank.world.accepted.total()) == (False, 0)


async def test_a_connection_can_end_unannounced(bank: Bank, session: aiohttp.ClientSession) -> None:
    """The answer is whole, nothing says close, and the connection is gone."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.HANG_UP, PAYMENTS)

    answer = await raw(bank, payment(token))

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"connection: close" not in answer.lower()
    assert answer.endswith(b"}")


async def test_every_answer_has_the_banks_date(bank: Bank, session: aiohttp.ClientSession) -> None:
    """The Date header follows the bank's clock, wrong as it may be."""
    bank.world.clock_offset = -86400 * 365
    async with session.get(bank.url + PAYMENTS) as response:
        assert response.headers["Date"] == bank.world.http_date()
