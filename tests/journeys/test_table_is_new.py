"""A migration's table is added to rules that have sent payments before: of those there is no retry pin."""

from pathlib import Path

from tests.journeys.caller import ask
from tests.journeys.conftest import Start
from tests.journeys.logs import searched
from tests.journeys.moved import REFUSED, TAKEN, Moved, moved
from tests.journeys.two_banks import Fault, answers, configured, on_legacy, pays, table, two_banks
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


async def test_a_new_table_pins_nobody_whose_payment_may_be_sent_again(tmp_path: Path, start: Start) -> None:
    """Neither by a reload, with what is in flight, nor by a start while the log has such a payment of that caller."""
    async with two_banks() as banks:
        configuration = configured(tmp_path, banks, callers=["erp", "crm"])
        with_log = configuration.read_text().replace('database = ""', 'database = "sqlite:requests.db"')
        configuration.write_text(with_log)
        before = on_legacy(configuration)
        configuration.write_text(before)
        site = Moved(
            banks=banks,
            directory=tmp_path,
            configuration=configuration,
            start=start,
            instance=await start(configuration),
        )
        banks.decide(lambda _: Fault.FAIL)
        assert (await ask(site.instance.address, pays("lost", caller="erp"))).status == 500
        banks.decide(answers)
        await until(
            lambda: searched(tmp_path, "--status", "500", "--config", str(configuration)),
            otherwise="it did not come to the log",
        )

        said = await site.reload(before + table(more='pin = { modern = ["crm"] }'))
        assert REFUSED in said
        assert "migrations.payments is new, and its pin.modern would move crm at once" in said

        configuration.write_text(before + table(more='pin = { modern = ["crm", "erp"] }'))
        assert "pin.modern would move crm, erp, of whom 1 request whose outcome is not certain" in (
            await site.refuses_to_start()
        )

        configuration.write_text(before + table(more='pin = { modern = ["crm"] }'))
        site.instance = await start(configuration)
        assert (await ask(site.instance.address, pays("new", caller="crm"))).status == 201
        assert (await ask(site.instance.address, pays("lost", caller="erp"))).status == 200
        said = await site.reload(before + table(more='pin = { modern = ["crm", "erp"] }'))
        assert "of whom 1 request whose outcome is not certain" in said
        assert banks.twice() == set()
