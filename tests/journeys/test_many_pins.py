"""A day on which the bank failed a lot: as many retry pins as once stopped every new payment."""

import json
from pathlib import Path

from proxy.clock import SystemClock
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin, retry_digest
from proxy.migration.pin_rows import pin_row
from proxy.migration.side import Side
from proxy.migration.stores.pins import FORMAT, NAME
from tests.journeys.conftest import Start
from tests.journeys.moved import moved
from tests.journeys.support import private
from tests.journeys.two_banks import two_banks

PINS = 100_000
NEW = 20
ANONYMOUS = ""
SIDES = ((Side.LEGACY, "before"), (Side.MODERN, "after"))


def written(path: Path, number: int) -> None:
    """Write pins for the keys "pinned-0" and so on: even ones to legacy, odd ones to modern."""
    now = SystemClock().now()
    lines = [json.dumps({"format": FORMAT})]
    for at in range(number):
        side, upstream = SIDES[at % 2]
        # Some are about to end and some are new, as on a day of them; none ends within the test.
        pin = RetryPin(side, upstream, now + PIN_SECONDS - at % (PIN_SECONDS - 3600), "payments", Reason.UNKNOWN)
        lines.append(json.dumps(pin_row(retry_digest("payments", ANONYMOUS, f"pinned-{at}"), pin)))
    private(path, "\n".join(lines) + "\n")


async def test_a_hundred_thousand_pins_stop_nobody(tmp_path: Path, start: Start) -> None:
    """New payments are served at once, pinned ones go to their side, one more is kept, and the number is shown."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start)
        assert await site.instance.stop() == 0
        written(tmp_path / "data" / NAME, PINS)

        site.instance = await start(site.configuration)

        for number in range(NEW):
            answer = await site.pay(f"fresh-{number}")
            assert answer.status == 201, answer.body
            assert banks.at(f"fresh-{number}") == "modern"
        for number in (0, 1, PINS // 2, PINS // 2 + 1, PINS - 2, PINS - 1):
            assert (await site.pay(f"pinned-{number}")).status == 201
            assert banks.at(f"pinned-{number}") == SIDES[number % 2][0].value

        await site.fail("one-more")
        await site.roll_back()
        assert (await site.pay("one-more")).status == 200
        assert banks.at("one-more") == "modern"
        assert (await site.pay("after")).status == 201
        assert banks.at("after") == "legacy"

        code, said = await site.migration("status")
        assert code == 0
        assert f"{PINS + 1} retry pins ({PINS // 2} to legacy and {PINS // 2 + 1} to modern)" in said
        metrics = (await site.instance.metrics()).body.decode()
        assert f'payproxy_migration_retry_pins{{migration="payments"}} {PINS + 1}.0\n' in metrics
        assert "[+]migrations ok" in await site.verbose()
        banks.check()
