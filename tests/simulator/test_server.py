import asyncio
import hashlib
import json
from pathlib import Path

import aiohttp
import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import Bank, TlsFiles, serve, simulator
from tests.simulator.support import Identity, bearing, mock_token, tls_client
from tests.simulator.test_delivery import connect, payment, raw, until

PAYMENTS = "/payment/v2/payments"


async def test_a_request_is_received_byte_for_byte(bank: Bank) -> None:
    """Raw target, header order, spelling and odd bytes are kept as they came; the token is not."""
    head = b"GET /echo/%7e/a%2Fb?x=%zz&y HTTP/1.1\r\nHost: x\r\nmerchantId: 1\r\nX-Odd: caf\xc3\xa9\r\nx-odd: 2\r\n"
    await raw(bank, head + b"Authorization: Bearer canary\r\nConnection: close\r\n\r\n")

    received = bank.world.seen()[0]
    assert received.target == "/echo/%7e/a%2Fb?x=%zz&y"
    assert received.headers[:4] == (
        (b"Host", b"x"),
        (b"merchantId", b"1"),
        (b"X-Odd", b"caf\xc3\xa9"),
        (b"x-odd", b"2"),
    )
    assert b"canary" not in repr(received).encode()
    assert (received.status, received.note) == (401, "token unknown")


async def test_two_identical_bodies_have_one_hash(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Seen twice with identical bytes is a question of two hashes, also for chunked uploads."""

    async def pieces() -> object:
        yield b"a" * 100_000
        yield b"b"

    token = await mock_token(session, bank)
    for data in (b"a" * 100_000 + b"b", pieces()):
        async with session.post(bank.url + PAYMENTS, data=data, headers=bearing(token)) as response:
            assert response.status == 201

    first, second = bank.world.seen(PAYMENTS)
    assert first.body_sha256 == second.body_sha256 == hashlib.sha256(b"a" * 100_000 + b"b").hexdigest()
    assert (first.body_size, first.complete) == (100_001, True)


async def test_a_compressed_body_is_not_unpacked(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Content-Encoding doesn't matter to what is hashed, be it valid or not."""
    token = await mock_token(session, bank)
    headers = bearing(token, **{"Content-Encoding": "gzip"})
    async with session.post(bank.url + PAYMENTS, data=b"no gzip", headers=headers) as response:
        assert response.status == 201

    assert bank.world.seen(PAYMENTS)[0].body_sha256 == hashlib.sha256(b"no gzip").hexdigest()


@pytest.mark.parametrize(
    "data",
    [
        payment("t", b"x" * 100, sent=b"x" * 10),
        f"POST {PAYMENTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxx".encode(),
    ],
)
async def test_a_body_that_breaks_off_is_not_executed(bank: Bank, data: bytes) -> None:
    """The caller's end dies in mid-body: received, marked incomplete, not executed."""
    _, writer = await connect(bank)
    writer.write(data)
    await until(lambda: len(bank.world.seen(PAYMENTS)) == 1)
    writer.close()
    await until(lambda: bank.world.seen(PAYMENTS)[0].body_sha256 != "")

    received = bank.world.seen(PAYMENTS)[0]
    assert (received.complete, received.status) == (False, 0)
    assert bank.world.accepted.total() == 0


async def test_a_broken_chunk_is_not_executed(bank: Bank) -> None:
    """A chunk size that is none makes the body incomplete."""
    head = f"POST {PAYMENTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await raw(bank, head.encode() + b"zz\r\n")

    assert not any(each.complete for each in bank.world.seen(PAYMENTS))
    assert bank.world.accepted.total() == 0


async def test_100_continue_is_answered(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A client that waits for 100 gets it."""
    token = await mock_token(session, bank)
    reader, writer = await connect(bank)
    writer.write(payment(token, b"{}", sent=b"").replace(b"Host", b"Expect: 100-continue\r\nHost"))
    async with asyncio.timeout(60):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def test_large_headers_are_taken(bank: Bank, session: aiohttp.ClientSession) -> None:
    """The `token` header of older APIs has up to 8192 characters; the simulator is no bottleneck."""
    async with session.get(bank.url + "/echo", headers={"token": "x" * 30_000}, max_field_size=65536) as response:
        assert response.status == 401


async def test_the_journal_has_the_request_before_its_answer(tmp_path: Path) -> None:
    """A payment whose connection was cut after execution stands in the witness file."""
    path = tmp_path / "witness.jsonl"
    async with (
        simulator(clock=SystemClock(), entropy=SystemEntropy(), journal=path) as bank,
        aiohttp.ClientSession() as session,
    ):
        token = await mock_token(session, bank)
        bank.world.faults.set("reset", PAYMENTS)
        with pytest.raises(ConnectionResetError):
            await raw(bank, payment(token))
        lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert [line["method"] for line in lines] == ["POST", "POST"]
    assert (lines[1]["target"], lines[1]["complete"]) == (PAYMENTS, True)
    assert ["Idempotency-Key", "k"] in lines[1]["headers"]
    assert token not in path.read_text()


async def test_it_speaks_tls(tmp_path: Path, who: Identity) -> None:
    """With certificate files the URLs are https and a client that trusts the certificate gets through."""
    (tmp_path / "server.pem").write_bytes(who.pem)
    (tmp_path / "server.key").write_bytes(who.key_pem)
    files = TlsFiles(certificate=tmp_path / "server.pem", key=tmp_path / "server.key")
    async with (
        simulator(clock=SystemClock(), entropy=SystemEntropy(), tls=files, host="localhost") as bank,
        tls_client(tmp_path) as session,
    ):
        assert bank.url.startswith("https://localhost:")
        assert bank.files_url.startswith("https://localhost:")
        token = await mock_token(session, bank)
        async with session.get(bank.files_url + "/api/v1/report-files/1?size=10", headers=bearing(token)) as response:
            assert (response.status, len(await response.read())) == (200, 10)


async def test_it_can_stop_listening_and_come_back(bank: Bank) -> None:
    """Connections are refused meanwhile; afterwards the same port serves again."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        bank.stop_listening()
        with pytest.raises(aiohttp.ClientConnectorError):
            await mock_token(session, bank)
        await bank.listen_again()

        assert await mock_token(session, bank)


async def test_it_stops_while_faults_keep_it_busy(who: Identity) -> None:
    """A handler that would sleep for an hour doesn't keep the simulator alive."""
    async with aiohttp.ClientSession() as session:
        async with simulator(clock=SystemClock(), entropy=SystemEntropy(), jwt_certificate=who.pem) as bank:
            token = await mock_token(session, bank)
            bank.world.faults.set("slow", PAYMENTS, seconds=3600)
            calling = asyncio.create_task(session.post(bank.url + PAYMENTS, data=b"{}", headers=bearing(token)))
            await until(lambda: bank.world.accepted.total() == 1)
        with pytest.raises(aiohttp.ClientError):
            await calling


async def test_serve_runs_until_cancelled() -> None:
    """The command's entry: it says when it listens and closes its ports at the end."""
    banks: list[Bank] = []
    running = serve("127.0.0.1", 0, clock=SystemClock(), entropy=SystemEntropy(), started=banks.append)
    serving = asyncio.create_task(running)
    await until(lambda: bool(banks))
    async with aiohttp.ClientSession() as session:
        assert await mock_token(session, banks[0])

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await connect(banks[0])
