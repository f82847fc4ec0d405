"""Two instances on one host share a PostgreSQL: each verifies its own chain, and knows what of it is gone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import ask, payment
from tests.journeys.conftest import Start
from tests.journeys.logs import verified
from tests.journeys.support import configured, private
from tests.records.postgres import Postgres, binaries, execute, running_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a server of this test's own."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    with running_postgres(found) as running:
        yield running


async def test_instances_of_one_name_verify_their_own_chains(
    tmp_path: Path, bank: Bank, start: Start, server: Postgres
) -> None:
    """The other's is verified by its key; with all rows of one gone that one says so, and the other does not."""
    configurations, chains = {}, {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        private(tmp_path / name / "database.url", server.url().reveal())
        configurations[name] = configured(
            tmp_path / name, bank.url, request_log='stdout = false\ndatabase_file = "database.url"'
        )
    instances = [await start(configurations[name]) for name in ("a", "b")]
    for number, instance in enumerate(instances):
        await ask(instance.address, payment(f"order-{number}"))
    assert [await instance.stop() for instance in instances] == [0, 0]

    async def checked(name: str) -> tuple[int, dict[str, Any]]:
        code, value = await verified(tmp_path, "--config", str(configurations[name]))
        return code, next(copy for copy in value["copies"] if copy["copy"] == "database")

    for name in ("a", "b"):
        code, copy = await checked(name)
        assert (code, copy["outcome"], len(copy["instances"])) == (0, "holds", 2), copy
        [own] = [one for one in copy["instances"].values() if one["trusted"]]
        [other] = [one for one in copy["instances"].values() if not one["trusted"]]
        assert own["names"] == other["names"]
        assert own["fingerprints"] != other["fingerprints"]
        chains[name] = own["chain"]

    gone = f'DELETE FROM payproxy.records WHERE record LIKE \'%"chain":"{chains["a"]}"%\''  # noqa: S608 - an id of ours
    await execute(server.url(), gone)

    code, copy = await checked("a")
    assert (code, copy["outcome"]) == (1, "broken")
    assert "were written here, and confirmed" in copy["flaws"][-1]["what"]
    assert (await checked("b"))[0] == 0


async def test_the_instances_name_is_a_setting(tmp_path: Path, bank: Bank, start: Start) -> None:
    """It stands in every record, and the chain's random id beside it, the same after a restart."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    configuration.write_text(f'instance = "payments-blue"\n{configuration.read_text()}')
    for _ in range(2):
        instance = await start(configuration)
        await ask(instance.address, payment("order"))
        assert await instance.stop() == 0

    _, value = await verified(tmp_path, "--config", str(configuration))
    found = {copy["copy"]: copy["instances"] for copy in value["copies"]}
    assert list(found["file"]) == ["payments-blue"]
    assert found["file"]["payments-blue"]["chain"] == (tmp_path / "data" / "chain.id").read_text().strip()
