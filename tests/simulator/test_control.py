from typing import Any

import aiohttp
import pytest

from proxy.simulator.clients import AUDIENCES, Flavor
from proxy.simulator.server import Bank
from proxy.simulator.token_endpoints import MOCK_PATH, MODERN_PATH
from tests.simulator.support import Identity, ask, basic, bearing, identity, mock_token, modern_form

HELLO = "/payment/helloworld"


async def steer(session: aiohttp.ClientSession, bank: Bank, action: str, value: Any) -> tuple[int, Any]:
    """Post to the control."""
    async with session.post(f"{bank.url}/_sim/{action}", json=value) as response:
        return response.status, await response.json()


async def hello(session: aiohttp.ClientSession, bank: Bank, token: str) -> int:
    """Return the status of a first call."""
    async with session.get(bank.url + HELLO, headers=bearing(token)) as response:
        return response.status


async def test_the_state_tells_counts_and_requests(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Mints, paths, tokens and what was received, but no token and none of the control's own requests."""
    token = await mock_token(session, bank)
    await hello(session, bank, token)
    async with session.get(bank.url + "/_sim/state?received=1") as response:
        text = await response.text()
        state = await response.json()

    assert state["mints"] == [{"client_id": "mock-client", "audience": "", "count": 1}]
    assert state["requests"] == {MOCK_PATH: 1, HELLO: 1}
    assert [each["target"] for each in state["received"]] == [HELLO]
    assert state["received"][0]["status"] == 200
    assert state["tokens"][0]["state"] == "live"
    assert state["tokens"][0]["fingerprint"] == state["received"][0]["token_fingerprint"]
    assert token not in text


async def test_revoke_all_until_new_ones_are_minted(bank: Bank, session: aiohttp.ClientSession) -> None:
    """All old tokens answer 401, a new one 200."""
    old = [await mock_token(session, bank) for _ in range(2)]

    status, value = await steer(session, bank, "revoke", {"all": True})

    assert (status, value) == (200, {"revoked": 2})
    assert [await hello(session, bank, each) for each in old] == [401, 401]
    assert await hello(session, bank, await mock_token(session, bank)) == 200
    assert bank.world.seen(HELLO)[0].note == "token revoked"


async def test_revoke_one(bank: Bank, session: aiohttp.ClientSession) -> None:
    """By fingerprint, the others live on."""
    one, two = await mock_token(session, bank), await mock_token(session, bank)
    await hello(session, bank, one)

    await steer(session, bank, "revoke", {"fingerprint": bank.world.seen(HELLO)[0].token_fingerprint})

    assert [await hello(session, bank, each) for each in (one, two)] == [401, 200]


async def test_faults_are_set_listed_and_taken_away(bank: Bank, session: aiohttp.ClientSession) -> None:
    """One or several at a time."""
    token = await mock_token(session, bank)
    await steer(session, bank, "fault", {"kind": "refuse", "path": HELLO, "times": 1})
    await steer(session, bank, "fault", [{"kind": "status", "path": HELLO, "status": 503}])
    statuses = [await hello(session, bank, token) for _ in range(3)]
    async with session.get(bank.url + "/_sim/fault") as response:
        listed = await response.json()
    async with session.delete(bank.url + "/_sim/fault") as response:
        assert response.status == 200

    assert statuses == [401, 503, 503]
    assert [(each["kind"], each["met"]) for each in listed] == [("refuse", 1), ("status", 2)]
    assert await hello(session, bank, token) == 200


async def test_clients_are_registered(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """All three flavors, by JSON; the list shows no secret."""
    pem = identity(key=who.key).pem.decode()
    for value in (
        {"flavor": "basic", "client_id": "b", "secret": "hush", "lifetime": 60},
        {"flavor": "jwt", "client_id": "j", "certificate": pem, "audiences": ["x"], "kid_forms": ["x5t"]},
        {"flavor": "jwt", "client_id": "t", "tls_certificate": pem},
        {"flavor": "adfs", "client_id": "a", "certificate": pem, "resources": ["r"]},
    ):
        status, listed = await steer(session, bank, "clients", value)
        assert status == 200
    async with session.get(bank.url + "/_sim/clients") as response:
        text = await response.text()

    assert {each["client_id"] for each in listed} >= {"b", "j", "t", "a"}
    assert "hush" not in text
    _, token, _ = await ask(session, bank.url + MOCK_PATH, "grant_type=client_credentials", basic("b", "hush"))
    assert token["expires_in"] == 60
    assert bank.world.clients.get(Flavor.ADFS, "a")


@pytest.mark.parametrize(
    ("offset", "note"), [(45, None), (600, "exp lies in the past"), (-2, "nbf lies in the future")]
)
async def test_the_clock_is_put_off(
    bank: Bank, session: aiohttp.ClientSession, who: Identity, offset: float, note: str | None
) -> None:
    """An assertion by the right clock is refused when the bank's is too far ahead, or behind at all."""
    form = modern_form(bank, who)
    status, value = await steer(session, bank, "clock", {"offset": offset})
    assert (status, value["offset"]) == (200, offset)

    got, _, _ = await ask(session, bank.url + MODERN_PATH, form)

    assert got == (401 if note else 200)
    assert bank.world.seen(MODERN_PATH)[0].note == (note or "")


async def test_access_is_changed(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A prefix is opened to other audiences, or to any token."""
    _, value, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who, audience=AUDIENCES["reporting"]))
    statuses = []
    for audiences in (["other"], [AUDIENCES["reporting"]], None):
        await steer(session, bank, "access", {"path": "/payment", "audiences": audiences})
        statuses.append(await hello(session, bank, value["access_token"]))

    assert statuses == [401, 200, 200]


async def test_reset_forgets(bank: Bank, session: aiohttp.ClientSession) -> None:
    """Old tokens are unknown afterwards, and the counts begin anew."""
    token = await mock_token(session, bank)
    await steer(session, bank, "reset", {})

    assert await hello(session, bank, token) == 401
    assert bank.world.log.total == 1


@pytest.mark.parametrize(
    ("action", "value", "status"),
    [
        ("fault", {"kind": "nonsense"}, 400),
        ("fault", {"kind": "slow", "second": 1}, 400),
        ("revoke", {}, 400),
        ("revoke", [], 400),
        ("clients", {"flavor": "x", "client_id": "c"}, 400),
        ("clients", {"flavor": "jwt", "client_id": "c", "certificate": "no pem"}, 400),
        ("clients", {"client_id": "c"}, 400),
        ("access", {"path": "/"}, 400),
        ("nothing", {}, 404),
    ],
)
async def test_a_mistake_is_told(
    bank: Bank, session: aiohttp.ClientSession, action: str, value: Any, status: int
) -> None:
    """400 with a reason, or 404; a fault that is misspelled is never silently none."""
    got, answer = await steer(session, bank, action, value)

    assert got == status
    assert answer["error"]


async def test_bad_json_is_told(bank: Bank, session: aiohttp.ClientSession) -> None:
    """A body that is no JSON is 400, another method 404."""
    async with session.post(bank.url + "/_sim/fault", data=b"{") as response:
        assert response.status == 400
    async with session.put(bank.url + "/_sim/state", data=b"{}") as response:
        assert response.status == 404
