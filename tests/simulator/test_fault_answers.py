import json

import aiohttp
import pytest

from proxy.simulator.clients import MOCK_CLIENT_ID
from proxy.simulator.faults import FaultKind
from proxy.simulator.server import Bank
from proxy.simulator.token_endpoints import ADFS_PATH, MOCK_PATH
from tests.simulator.support import Identity, adfs_form, ask, basic, bearing, mock_token

GRANT = {"grant_type": "client_credentials"}
PAYMENTS = "/payment/v2/payments"


async def statuses(
    session: aiohttp.ClientSession, bank: Bank, token: str, times: int, path: str = PAYMENTS
) -> list[int]:
    """Return the statuses of *times* payments."""
    found = []
    for _ in range(times):
        async with session.post(bank.url + path, data=b"{}", headers=bearing(token)) as response:
            found.append(response.status)
    return found


@pytest.mark.parametrize(("times", "expected"), [(1, [401, 201, 201]), (2, [401, 401, 201]), (None, [401, 401, 401])])
async def test_401_once_n_times_and_always(
    bank: Bank, session: aiohttp.ClientSession, times: int | None, expected: list[int]
) -> None:
    """A good token is refused as often as told, and a refused payment is not executed."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.REFUSE, PAYMENTS, times=times)

    assert await statuses(session, bank, token, 3) == expected
    assert bank.world.accepted.total() == expected.count(201)
    assert bank.world.seen(PAYMENTS)[0].fault == "refuse"


async def test_a_fault_can_aim_at_one_client(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Another client's calls go on."""
    bank.world.register_secret_client("other", "secret")
    mine = await mock_token(session, bank)
    _, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic("other", "secret"))
    bank.world.faults.set(FaultKind.REFUSE, client=MOCK_CLIENT_ID)

    assert await statuses(session, bank, mine, 1) == [401]
    assert await statuses(session, bank, value["access_token"], 1) == [201]


@pytest.mark.parametrize(
    ("path", "status", "header", "text"),
    [
        (PAYMENTS, 403, None, '"14000"'),
        (PAYMENTS, 429, None, '"9005"'),
        (PAYMENTS, 503, "600", "unavailable"),
        ("/tsapi/v2/validations", 403, None, "GCA-001"),
        ("/v1/checkout/x", 403, None, "Invalid JWT. Denying request."),
    ],
)
async def test_a_status_comes_in_the_familys_shape(
    bank: Bank, session: aiohttp.ClientSession, *, path: str, status: int, header: str | None, text: str
) -> None:
    """403, 429 and 503 look as the bank's look there."""
    token = await mock_token(session, bank)
    bank.world.faults.set(FaultKind.STATUS, path, status=status)
    async with session.post(bank.url + path, data=b"{}", headers=bearing(token)) as response:
        assert response.status == status
        assert response.headers.get("Retry-After") == header
        assert text in await response.text()

    assert bank.world.accepted.total() == 0


async def test_a_status_may_have_its_own_body_and_headers(bank: Bank, session: aiohttp.ClientSession) -> None:
    """What the fault says replaces the shape."""
    challenge = 'Bearer error="insufficient_scope"'
    how = {"status": 401, "body": "no", "headers": {"WWW-Authenticate": challenge}}
    bank.world.faults.set(FaultKind.STATUS, PAYMENTS, **how)
    async with session.get(bank.url + PAYMENTS) as response:
        assert (response.status, await response.text()) == (401, "no")
        assert response.headers["WWW-Authenticate"] == challenge


async def test_a_mint_is_refused_with_a_given_error(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """By default in the endpoint's usual words, else in those of the fault."""
    bank.world.faults.set(FaultKind.REFUSE, ADFS_PATH, times=1)
    bank.world.faults.set(FaultKind.REFUSE, MOCK_PATH, times=1)
    bank.world.faults.set(FaultKind.REFUSE, MOCK_PATH, error="invalid_scope", description="no", status=403)

    answers = [
        await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who)),
        await ask(session, bank.url + MOCK_PATH, GRANT, basic()),
        await ask(session, bank.url + MOCK_PATH, GRANT, basic()),
    ]

    assert [(status, value["error"]) for status, value, _ in answers] == [
        (400, "invalid_client"),
        (401, "invalid_client"),
        (403, "invalid_scope"),
    ]
    assert answers[0][1]["error_description"].startswith("MSIS9622")
    assert bank.world.mint_count() == 0


async def test_a_token_endpoint_can_be_overrun(bank: Bank, session: aiohttp.ClientSession) -> None:
    """429 with Retry-After, then 500."""
    bank.world.faults.set(FaultKind.STATUS, MOCK_PATH, status=429, headers={"Retry-After": "7"}, times=1)
    bank.world.faults.set(FaultKind.STATUS, MOCK_PATH, error="server_error", description="x")

    limited, _, response = await ask(session, bank.url + MOCK_PATH, GRANT, basic())
    failed, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic())

    assert (limited, response.headers["Retry-After"]) == (429, "7")
    assert (failed, value) == (500, {"error": "server_error", "error_description": "x"})


@pytest.mark.parametrize(
    ("kind", "content_type", "start", "whole"),
    [
        (FaultKind.HTML, "text/html", b"<!DOCTYPE html>", False),
        (FaultKind.EMPTY, "application/json", b"", True),
        (FaultKind.BROKEN_JSON, "application/json", b'{"access_token":"', False),
    ],
)
async def test_a_token_endpoint_can_talk_nonsense(
    bank: Bank, session: aiohttp.ClientSession, *, kind: FaultKind, content_type: str, start: bytes, whole: bool
) -> None:
    """200 and a page, nothing, or JSON that breaks off."""
    bank.world.faults.set(kind, MOCK_PATH)
    async with session.post(bank.url + MOCK_PATH, data=GRANT, headers=basic()) as response:
        body = await response.read()

    assert (response.status, response.content_type) == (200, content_type)
    assert body.startswith(start)
    assert (body == start) == whole
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(body)


async def test_an_endless_answer_does_not_end(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Megabytes later it still goes on; the simulator outlives the client that gives up."""
    bank.world.faults.set(FaultKind.ENDLESS, MOCK_PATH)
    async with session.post(bank.url + MOCK_PATH, data=GRANT, headers=basic()) as response:
        assert len(await response.content.readexactly(4 << 20)) == 4 << 20
        response.close()

    bank.world.faults.clear()
    assert await mock_token(session, bank)


@pytest.mark.parametrize("location", ["", "https://evil.example/token"])
async def test_a_redirect_points_away(bank: Bank, session: aiohttp.ClientSession, location: str) -> None:
    """302 to the location given, else to a path of the simulator that would show up as received."""
    bank.world.faults.set(FaultKind.REDIRECT, MOCK_PATH, location=location)
    async with session.post(bank.url + MOCK_PATH, data=GRANT, headers=basic(), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, location or bank.url + "/elsewhere")


async def test_a_short_lifetime_is_true(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A token that lives no time says so and is refused as expired."""
    bank.world.faults.set(FaultKind.LIFETIME, MOCK_PATH, seconds=0)
    _, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic())

    assert value["expires_in"] == 0
    assert await statuses(session, bank, value["access_token"], 1) == [401]
    assert bank.world.seen(PAYMENTS)[0].note == "token expired"


@pytest.mark.parametrize("odd", ["3600", 0, -1, 1.5, 1e99, True, None, [1]])
async def test_expires_in_can_be_odd_while_the_token_is_good(
    bank: Bank, session: aiohttp.ClientSession, odd: object
) -> None:
    """Any JSON value may stand there."""
    bank.world.faults.set(FaultKind.FIELDS, MOCK_PATH, fields={"expires_in": odd})
    _, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic())

    assert value["expires_in"] == odd
    assert type(value["expires_in"]) is type(odd)
    assert await statuses(session, bank, value["access_token"], 1) == [201]


async def test_fields_of_the_token_answer_can_be_missing_or_added(bank: Bank, session: aiohttp.ClientSession) -> None:
    """expires_in and token_type away, another there."""
    bank.world.faults.set(FaultKind.FIELDS, MOCK_PATH, without=("expires_in", "token_type"), fields={"x": 1})
    _, value, _ = await ask(session, bank.url + MOCK_PATH, GRANT, basic())

    assert value.keys() == {"access_token", "scope", "x"}
    assert bank.world.seen(MOCK_PATH)[0].fault == "fields"


async def test_the_same_token_can_be_handed_out_again(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A bank that caches gives the revoked token once more; each is a mint."""
    first = await mock_token(session, bank)
    bank.world.tokens.revoke()
    bank.world.faults.set(FaultKind.REPEAT, MOCK_PATH, times=1)

    again = await mock_token(session, bank)
    fresh = await mock_token(session, bank)

    assert again == first != fresh
    assert bank.world.mint_count() == 3
    assert await statuses(session, bank, again, 1) == [401]
