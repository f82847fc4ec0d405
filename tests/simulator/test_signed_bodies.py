"""The simulator's own check of signed bodies."""

import base64
from typing import Any

import aiohttp
import jwt
import pytest

from proxy.simulator.server import Bank
from tests.simulator.support import Identity, bearing, identity, mock_token

PAYMENTS = "/payment/v2/payments"
BODY = b'{"amount": 10.00, "x": "\xff"}'


@pytest.fixture(scope="module")
def signer() -> Identity:
    """A key whose certificate the bank has."""
    return identity(name="signer")


def jws(who: Identity, payload: bytes = BODY, **header: Any) -> bytes:
    """Return a JWS made by PyJWT, with the header of RS256 alone."""
    made = jwt.PyJWS().encode(payload, who.key, algorithm="RS256", headers={"typ": None, **header})
    return made.encode()


async def sent(session: aiohttp.ClientSession, bank: Bank, body: bytes, *, method: str = "POST") -> int:
    """Return the status of a request with *body*."""
    headers = bearing(await mock_token(session, bank))
    async with session.request(method, bank.url + PAYMENTS, data=body, headers=headers) as response:
        await response.read()
        return response.status


async def test_a_signed_payment_is_executed_with_its_payload(
    bank: Bank, session: aiohttp.ClientSession, signer: Identity
) -> None:
    """The books have what was signed."""
    bank.world.require_signature("/payment", signer.pem)

    assert await sent(session, bank, jws(signer)) == 201
    [payment] = bank.world.payments.values()
    [received] = bank.world.seen(PAYMENTS)
    assert received.payload_sha256 == payment["bodySha256"]
    assert received.payload_sha256 != received.body_sha256


async def test_what_is_no_jws_is_400_and_another_key_403(
    bank: Bank, session: aiohttp.ClientSession, signer: Identity
) -> None:
    """Nothing of it is executed, and the note says why."""
    bank.world.require_signature("/payment", signer.pem)
    good = jws(signer)
    header, payload, signature = good.split(b".")
    wrong = {
        b"": 400,
        BODY: 400,
        b"..".join((header, signature)): 400,
        good + b"=": 400,
        b" " + good: 400,
        b".".join((base64.urlsafe_b64encode(b'{"alg": "RS256"}').rstrip(b"="), payload, signature)): 400,
        jws(signer, kid="k"): 400,
        b".".join((base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"="), payload, b"AA")): 400,
        b".".join((header, payload[:-4], signature)): 403,
        jws(identity(name="other")): 403,
    }

    assert {body: await sent(session, bank, body) for body in wrong} == wrong
    assert not bank.world.payments
    assert all("body is" in received.note for received in bank.world.seen(PAYMENTS))


async def test_only_post_and_put_below_the_path(bank: Bank, session: aiohttp.ClientSession, signer: Identity) -> None:
    """And nobody else's path; without a certificate the demand ends."""
    bank.world.require_signature(PAYMENTS, signer.pem)
    assert await sent(session, bank, b"", method="GET") == 200
    async with session.post(f"{bank.url}/_sim/signature", json={"path": PAYMENTS}) as response:
        assert await response.json() == {"paths": []}
    assert await sent(session, bank, BODY) == 201


async def test_it_is_set_over_http(bank: Bank, session: aiohttp.ClientSession, signer: Identity) -> None:
    """For tests in other processes."""
    value = {"path": "/payment", "certificate": signer.pem.decode()}
    async with session.post(f"{bank.url}/_sim/signature", json=value) as response:
        assert (response.status, await response.json()) == (200, {"paths": ["/payment"]})

    assert await sent(session, bank, BODY) == 400
