from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import configured
from tests.journeys.waiting import until
from tests.support.ports import lasting_port


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_instance_on_the_port_is_refused(tmp_path: Path, bank: Bank, start: Start, workers: int) -> None:
    """It ends with 1 and names the address; the first one's callers stay its own, as long as it lives."""
    first = await start(configured(tmp_path, bank.url, server=f"workers = {workers}"))
    folder = tmp_path / "second"
    folder.mkdir()
    file = configured(folder, bank.url, server=f"workers = {workers}")
    place = ":".join(map(str, first.address))

    second = await Instance.run(folder, "-m", "proxy", "serve", "--config", str(file), env=_at(place))

    assert await second.exit_code() == 1
    assert f"server.listen = '{place}': Address already in use" in second.output
    assert {(await get(first.address, "/payment/helloworld")).status for _ in range(20)} == {200}
    assert await first.stop() == 0
    heir = await start(file, env=_at(place))
    assert (await get(heir.address, "/payment/helloworld")).status == 200


async def test_of_two_that_start_together_one_serves(tmp_path: Path, bank: Bank) -> None:
    """Neither listens when the other looks: the one that can serve first keeps the port, the other ends with 1."""
    instances: list[Instance] = []
    env = _at(f"127.0.0.1:{lasting_port()}")
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        file = configured(folder, bank.url, server="workers = 2")
        instances.append(await Instance.run(folder, "-m", "proxy", "serve", "--config", str(file), env=env))

    def ended() -> list[Instance]:
        return [one for one in instances if one.process.returncode is not None]

    try:
        await until(ended, otherwise="both serve")
        [loser] = ended()
        [winner] = [one for one in instances if one is not loser]
        assert await loser.exit_code() == 1
        assert "Address already in use" in loser.output
        assert "Traceback" not in loser.output
        await winner.started(ready=True)
        assert {(await get(winner.address, "/payment/helloworld")).status for _ in range(20)} == {200}
    finally:
        for one in instances:
            await one.end()


def _at(place: str) -> dict[str, str]:
    return {"PAYPROXY_SERVER__LISTEN": place}
