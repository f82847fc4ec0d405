import asyncio
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import record
from tests.journeys.support import TOKEN_PATH, configured
from tests.journeys.waiting import until

LIFETIME = 5.0


async def test_a_valid_token_serves_while_the_token_endpoint_is_down(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Renewals fail and nobody notices until the token's end; then 503 and nothing is sent; then it heals itself."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=LIFETIME)
    instance = await start(configured(tmp_path, bank.url))
    bank.world.faults.set("down", path=TOKEN_PATH)
    asked = len(bank.world.seen(TOKEN_PATH))

    served_after_failure = 0
    while (answer := await get(instance.address, "/payment/helloworld")).status == 200:
        served_after_failure += len(bank.world.seen(TOKEN_PATH)) > asked
        await asyncio.sleep(0.02)

    assert served_after_failure > 5
    _assert_no_token(answer)
    sent = len(bank.world.seen("/payment"))
    refused = await asyncio.gather(*(ask(instance.address, payment(f"order-{number}")) for number in range(20)))
    for each in refused:
        _assert_no_token(each)
    assert len(bank.world.seen("/payment")) == sent
    logged = await until(lambda: record(tmp_path, refused[0].request_id), otherwise="there was no record")
    assert (logged["status"], logged["code"], logged["sent_upstream"]) == (503, "token_unavailable", "no")
    assert (logged["origin"], logged["attempts"]) == ("proxy", [])
    # One endpoint's outage takes no replica away.
    assert await instance.is_ready()
    assert b"[!]credential/mock degraded" in (await get(instance.admin, "/readyz?verbose")).body

    bank.world.faults.clear()

    async def healed() -> bool:
        return (await ask(instance.address, payment("after"))).status == 201

    await until(healed, otherwise="no token was minted after the token endpoint was back")


@pytest.mark.thorough
async def test_without_any_token_nothing_is_sent(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With the token endpoint down from the start, callers get 503 at once, and service begins by itself."""
    bank.world.faults.set("down", path=TOKEN_PATH)
    instance = await start(configured(tmp_path, bank.url))

    _assert_no_token(await ask(instance.address, payment("before")))

    bank.world.faults.clear()

    async def healed() -> bool:
        return (await ask(instance.address, payment("after"))).status == 201

    await until(healed, otherwise="no token was minted after the token endpoint was back")
    assert bank.world.accepted == {"after": 1}
    assert {each.header("Idempotency-Key") for each in bank.world.seen("/payment")} == {"after"}


@pytest.mark.thorough
async def test_a_refused_credential_is_said_and_not_hammered(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A wrong secret: 502 token_refused, the endpoint is asked once, and its words do not reach the caller."""
    instance = await start(configured(tmp_path, bank.url, secret="not-the-secret"))

    for _ in range(20):
        answer = await ask(instance.address, payment("never"))
        assert (answer.status, answer.json["code"], answer.json["sent_upstream"]) == (502, "token_refused", "no")

    assert bank.world.seen("/payment") == []
    assert len(bank.world.seen(TOKEN_PATH)) == 1


def _assert_no_token(answer: Answer) -> None:
    assert (answer.status, answer.json["code"]) == (503, "token_unavailable")
    assert (answer.json["sent_upstream"], answer.json["retryable"]) == ("no", True)
    assert int(answer.headers["retry-after"]) >= 1
