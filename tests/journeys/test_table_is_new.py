"""A migration's table is added to rules that have sent payments before: of those there is no retry pin."""

from pathlib import Path

from tests.journeys.conftest import Start
from tests.journeys.logs import searched
from tests.journeys.moved import TAKEN, moved
from tests.journeys.two_banks import on_legacy, two_banks
from tests.journeys.waiting import until


async def test_nobody_moves_while_a_payment_from_before_may_be_sent_again(tmp_path: Path, start: Start) -> None:
    """Its retry would go by the weight; the command says until when, and --force is the way past it."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start, weight=0)
        whole = site.configuration.read_text().replace('database = ""', 'database = "sqlite:requests.db"')
        site.configuration.write_text(whole)
        site.configuration.write_text(on_legacy(site.configuration))
        await site.restart()
        await site.fail("lost")
        await until(
            lambda: searched(tmp_path, "--status", "500", "--config", str(site.configuration)),
            otherwise="it did not come to the log",
        )
        assert TAKEN in await site.reload(whole)

        code, said = await site.migration("set", "payments", "100", "--reason", "week two")

        assert code == 1, said
        assert "1 request whose outcome is not certain was sent on payments before [migrations.payments]" in said
        assert (await site.pay("lost")).status == 200
        assert banks.twice() == set()
        code, said = await site.migration("set", "payments", "100", "--force", "--reason", "the bank was asked")
        assert code == 0, said
