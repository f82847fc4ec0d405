"""Tokens that live 20 seconds, on three replicas under load: no request waits for a mint while a token is valid."""

from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import ReplicaFleet, fleet_with_redis
from tests.journeys.books import Books, books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.fleet import ADFS, MODERN
from tests.journeys.waiting import until

LIFETIME = 20.0
# A mint takes so long. A quick one would begin 4.5 to 5 seconds before the end of a token, which is not sent in its
# last two: requests would wait for more than two seconds.
SLOW_MINT = 5.0
# On a busy machine a request may stand before it takes its token.
BUSY_SECONDS = 1.9
RENEWALS = 2


@pytest.mark.timeout(600)
async def test_no_request_waits_for_a_mint_while_a_token_is_valid(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Each token that a request was sent with was there when the request came, though each mint takes five seconds."""
    for path in (ADFS, MODERN):
        bank.world.faults.set("lifetime", path=path, seconds=LIFETIME)
        bank.world.faults.set("slow", path=path, seconds=SLOW_MINT)
    async with fleet_with_redis(tmp_path, bank, start) as fleet:
        await fleet.moves_to(50)
        async with fleet.callers.at_work():
            await _renewed(fleet)
            await fleet.callers.goes_on()
        found = await books(fleet)

        found.check()
        waits = _waits(found)
        assert len(waits) > 100
        assert max(waits) < BUSY_SECONDS
        await check_chains(fleet)


async def _renewed(fleet: ReplicaFleet) -> None:
    """Return once each replica has had each of its two tokens renewed so often."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)

    async def often_enough() -> bool:
        for one in fleet.replicas:
            for token in (await one.instance.status())["tokens"]:
                seen[one.name, token["credential"]].add(token["fingerprint"])
        return len(seen) == 2 * len(fleet.replicas) and min(map(len, seen.values())) > RENEWALS

    await until(often_enough, otherwise="tokens were not renewed", within=150.0)


def _waits(found: Books) -> list[float]:
    """Return for each request how long after it came its token was issued, negative if that was there before.

    The bank notes a mint when its request comes, and answers it `SLOW_MINT` later; tokens are issued in that order.
    """
    world = found.fleet.bank.world
    mints = [one for one in world.log.requests if one.path in {ADFS, MODERN}]
    issued = {
        token.fingerprint: one.when + SLOW_MINT
        for one, token in zip(mints, world.tokens, strict=True)
        if token.client_id == one.client_id
    }
    assert len(issued) == len(mints), "the mints are not in the order of the tokens"
    return [
        issued[record["attempts"][0]["token_fingerprint"]] - datetime.fromisoformat(record["time"]).timestamp()
        for [record] in found.records.values()
        if record["attempts"]
    ]
