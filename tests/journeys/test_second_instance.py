from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import configured


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


def _at(place: str) -> dict[str, str]:
    return {"PAYPROXY_SERVER__LISTEN": place}
