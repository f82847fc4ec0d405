"""A modern token endpoint that fails: callers never notice, for legacy serves, and the guard goes back."""

from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines
from tests.journeys.fleet import MODERN, Fleet, check_never_twice, configured, received, state, statuses
from tests.journeys.guard import GOOD, HALF, check_told, goes_on, was_on_modern, went_back
from tests.journeys.migrated import set_weight
from tests.journeys.waiting import until

# Over soon.
TOKEN_SECONDS = 6.0
# A mint that takes longer is given up.
MINT_SECONDS = 1.0


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "down"}, id="down"),
        pytest.param({"kind": "refuse"}, id="refuse", marks=pytest.mark.thorough),
        pytest.param({"kind": "status", "status": 503}, id="status", marks=pytest.mark.thorough),
        pytest.param({"kind": "slow", "seconds": 30.0}, id="slow", marks=pytest.mark.thorough),
        pytest.param({"kind": "html"}, id="html", marks=pytest.mark.thorough),
    ],
)
async def test_a_modern_endpoint_that_fails_is_seen_by_no_caller(
    tmp_path: Path, bank: Bank, start: Start, fault: dict[str, Any]
) -> None:
    """While its last token lives modern serves, then legacy at once, without a wait for a mint; the guard goes back."""
    configuration = configured(tmp_path, bank, credential=f"timeout = {MINT_SECONDS}")
    bank.world.faults.set("lifetime", path=MODERN, seconds=TOKEN_SECONDS)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, HALF)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        bank.world.faults.set(**fault, path=MODERN)
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    assert "failed" in (await state(instance))["reason"]
    assert _why_not_modern(tmp_path) == {"modern_token_missing"}
    assert {len(sends) for sends in received(bank).values()} == {1}
    check_told(instance, tmp_path)
    check_never_twice(bank)


def _why_not_modern(directory: Path) -> set[str]:
    """Return the notes of the exchanges that fell back."""
    notes = {line["note"] for line in lines(directory / "requests.jsonl") if line["kind"] == "exchange"}
    return notes - {""}
