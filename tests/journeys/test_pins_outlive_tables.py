"""A table is taken away while retries must still find their side: refused and said, unless forced with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journeys.conftest import Start
from tests.journeys.moved import REFUSED, TAKEN, moved, names_pins
from tests.journeys.two_banks import QUIET_GUARD, on_legacy, on_modern, table, two_banks

FINISH = "payproxy migration finish payments"
LOST = ("lost-1", "lost-2", "lost-3")


def renamed(configuration: Path) -> str:
    """Return the configuration with its migration under another name, at which the weight would be 0."""
    return on_legacy(configuration) + table("payouts", more=QUIET_GUARD)


@pytest.mark.parametrize(
    ("weight", "without"),
    [(100, on_modern), (100, on_legacy), (50, on_modern), (0, on_legacy), (100, renamed), (0, renamed)],
    ids=["100-on-modern", "100-on-legacy", "50-on-modern", "0-on-legacy", "100-renamed", "0-renamed"],
)
async def test_a_table_with_open_pins_stays(
    tmp_path: Path, start: Start, weight: int, without: Callable[[Path], str]
) -> None:
    """Reload and start say how many pins there are, until when, and the command; retries find their side."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.fail(*LOST)
        if weight < 100:
            await site.set(weight)

        said = await site.reload(without(site.configuration))

        assert REFUSED in said
        assert FINISH in said
        assert names_pins(said, len(LOST)), said
        [one] = (await site.instance.status())["migrations"]
        assert (one["name"], one["weight"]) == ("payments", weight)
        assert (await site.pay(LOST[0])).status == 200
        said = await site.refuses_to_start()
        assert FINISH in said
        assert names_pins(said, len(LOST)), said
        assert banks.twice() == set()


async def test_a_migration_with_open_pins_is_finished_by_force(tmp_path: Path, start: Start) -> None:
    """Else `finish` says how many and until when; forced it is a record with its reason, and the table may go."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.fail(*LOST)
        whole, finished = site.configuration.read_text(), on_modern(site.configuration)

        code, said = await site.migration("finish", "payments", "--reason", "over")
        assert code == 1
        assert "--force" in said
        assert names_pins(said, len(LOST)), said
        assert REFUSED in await site.reload(finished)
        site.configuration.write_text(whole)

        code, said = await site.migration("finish", "payments", "--force", "--reason", "the bank was asked")
        assert code == 0, said
        assert "delete [migrations.payments]" in said
        assert TAKEN in await site.reload(finished)
        assert ("migration finish", "the bank was asked") in [(one["what"], one["reason"]) for one in site.operations()]
        await site.restart()
        assert (await site.pay("new")).status == 201
        assert banks.at("new") == "modern"


@pytest.mark.parametrize("weight", [0, 100])
async def test_a_table_that_has_moved_somebody_is_finished_first(tmp_path: Path, start: Start, weight: int) -> None:
    """Also without a pin and whatever the rule names: else everyone would go back unasked and without a record."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.set(weight)
        whole = site.configuration.read_text()

        said = await site.reload(on_legacy(site.configuration))
        assert REFUSED in said
        assert FINISH in said
        assert (await site.pay("stays")).status == 201
        assert banks.at("stays") == ("modern" if weight else "legacy")
        assert FINISH in await site.refuses_to_start()

        site.configuration.write_text(whole)
        site.instance = await start(site.configuration)
        code, said = await site.migration("finish", "payments", "--reason", "over")
        assert code == 0, said
        assert TAKEN in await site.reload(on_modern(site.configuration) if weight else on_legacy(site.configuration))
        await site.restart()


async def test_the_command_that_a_refusal_names_helps_at_once(tmp_path: Path, start: Start) -> None:
    """The file has no table any more, the instance has: `finish` is about the instance."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        await site.fail(*LOST)
        assert REFUSED in await site.reload(on_modern(site.configuration))

        code, said = await site.migration("finish", "payments", "--force", "--reason", "the bank was asked")

        assert code == 0, said
        assert TAKEN in await site.reload(site.configuration.read_text())


async def test_a_table_that_never_moved_anybody_goes(tmp_path: Path, start: Start) -> None:
    """Adding it moved nobody, and so does taking it away, on SIGHUP and at a start."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start, weight=0)
        assert (await site.pay("before")).status == 201
        whole = site.configuration.read_text()
        assert TAKEN in await site.reload(on_legacy(site.configuration))
        assert TAKEN in await site.reload(whole)

        site.configuration.write_text(on_legacy(site.configuration))
        await site.restart()

        assert (await site.pay("after")).status == 201
        assert banks.at("after") == "legacy"


@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
async def test_an_unchanged_file_starts_again_with_open_pins(tmp_path: Path, start: Start, *, hard: bool) -> None:
    """Nobody has set a weight yet, and a payment failed on legacy."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start, weight=0)
        await site.fail("lost")
        if hard:
            await site.instance.kill_all()
            site.instance = await start(site.configuration)
        else:
            await site.restart()

        assert (await site.pay("lost")).status == 200
        assert banks.at("lost") == "legacy"


async def test_the_way_back_needs_no_table_in_the_file(tmp_path: Path, start: Start) -> None:
    """A file that was edited too early takes no control away: the running instance still has the table."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        said = await site.reload(on_modern(site.configuration))
        assert REFUSED in said

        code, said = await site.migration("rollback", "payments", "--reason", "too early")

        assert code == 0, said
        assert "weight 0" in said
        assert (await site.pay("after")).status == 201
        assert banks.at("after") == "legacy"
