"""Instances that share a state mask alike: a value that one of them has masked is found from the other."""

from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import ask, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines
from tests.journeys.logs import searched
from tests.journeys.support import configured, private
from tests.support.redis import redis_server

CARD = "4111111111111111"


async def test_replicas_mask_alike(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The key comes from what seals the state; a database of one is searched with the data directory of the other."""
    async with redis_server(tmp_path) as redis:
        masked, configurations = [], []
        for name in ("a", "b"):
            directory = tmp_path / name
            directory.mkdir()
            private(directory / "state.key", "5a" * 32)
            log = 'stdout = false\ndatabase = "sqlite:requests.db"'
            configuration = configured(directory, bank.url, request_log=log)
            with configuration.open("a") as file:
                file.write(f'\n[state]\nurl = "{redis.url}"\nencryption_key_files = ["state.key"]\n')
            instance = await start(configuration)
            await ask(instance.address, payment(CARD))
            assert await instance.stop() == 0
            [record] = [one for one in lines(directory / "requests.jsonl") if one["kind"] == "exchange"]
            masked.append(record["index"]["Idempotency-Key"])
            configurations.append(configuration)

    assert masked[0] == masked[1] != CARD
    [database] = (tmp_path / "a" / "data").glob("requests-*.db")
    database.replace(tmp_path / "b" / "data" / database.name)
    found = await searched(tmp_path, "--idempotency-key", CARD, "--config", str(configurations[1]))
    assert [record["index"]["Idempotency-Key"] for record in found] == [masked[0]]
