"""An instance between two banks whose payments can be moved, fail and be looked for; and what its commands say."""

import os
import re
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from proxy.clock import SystemClock
from tests.journeys.caller import Answer, ask, get
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, lines
from tests.journeys.process import Instance, Process
from tests.journeys.two_banks import QUIET_GUARD, Fault, TwoBanks, answers, configured, pays, table
from tests.journeys.waiting import until
from tests.journeys.weights import roll_back, set_weight

TAKEN, REFUSED = "is in force", "the old one stays in force"


@dataclass(kw_only=True)
class Moved:
    """An instance with the migration "payments", and its directory."""

    banks: TwoBanks
    directory: Path
    configuration: Path
    start: Start
    instance: Instance
    _keys: "count[int]" = field(default_factory=lambda: count(1))

    async def pay(self, key: str) -> Answer:
        """Return the answer to a payment."""
        return await ask(self.instance.address, pays(key))

    async def fail(self, *keys: str) -> None:
        """Have whichever bank gets the payments *keys* answer with 500: retries must go to the same side now."""
        self.banks.decide(lambda _: Fault.FAIL)
        for key in keys:
            assert (await self.pay(key)).status == 500
        self.banks.decide(answers)

    async def set(self, weight: int) -> None:
        """Set the weight and return once the anonymous caller is where it belongs at 0 and 100."""
        await set_weight(self.directory, weight)
        await self._all_new_follow(weight)

    async def roll_back(self) -> None:
        """Go back to 0."""
        await roll_back(self.directory)
        await self._all_new_follow(0)

    async def migration(self, *arguments: str) -> tuple[int, str]:
        """Run `payproxy migration` and return its exit code and all that it says to people."""
        process = await Process.run(
            self.directory, "-m", "proxy", "migration", *arguments, "--config", str(self.configuration)
        )
        return await process.exit_code(), process.output

    async def reload(self, text: str) -> str:
        """Write *text* into the file, send SIGHUP and return what is said to it, with `TAKEN` or `REFUSED` in it."""
        before = self.instance.stderr.read_text()
        self.configuration.write_text(text)
        os.kill(self.instance.pid, signal.SIGHUP)

        def verdict() -> str:
            said = self.instance.stderr.read_text()[len(before) :]
            return said if TAKEN in said or REFUSED in said else ""

        return await until(verdict, otherwise="nothing was said of the reload")

    async def refuses_to_start(self) -> str:
        """Stop the instance, try to start another, and return what it says; it must end with 78."""
        if self.instance.process.returncode is None:
            assert await self.instance.stop() == 0
        process = await Process.run(self.directory, "-m", "proxy", "serve", "--config", str(self.configuration))
        assert await process.exit_code() == 78, process.output
        return process.output

    async def restart(self) -> None:
        """Stop the instance and start it anew, without a wait for what it does to new payments."""
        assert await self.instance.stop() == 0
        self.instance = await self.start(self.configuration)

    async def verbose(self) -> str:
        """Return `/readyz?verbose`."""
        return (await get(self.instance.admin, "/readyz?verbose")).body.decode()

    def operations(self) -> list[Record]:
        """Return the records of what operators did."""
        return [each for each in lines(self.directory / "requests.jsonl") if each["kind"] == "operation"]

    async def _all_new_follow(self, weight: int) -> None:
        sides = {0: "legacy", 100: "modern"}

        async def follows() -> bool:
            key = f"new-{next(self._keys)}"
            return (await self.pay(key)).status == 201 and self.banks.at(key) == sides[weight]

        if weight in sides:
            await until(follows, otherwise=f"new payments do not follow the weight {weight}")


async def moved(directory: Path, banks: TwoBanks, start: Start, *, weight: int = 100, workers: int = 1) -> Moved:
    """Start an instance whose migration was moved to *weight*; 0: never moved."""
    configuration = configured(directory, banks, workers=workers, migration=table(more=QUIET_GUARD))
    instance = await start(configuration)
    found = Moved(banks=banks, directory=directory, configuration=configuration, start=start, instance=instance)
    if weight:
        await found.set(weight)
    return found


def names_pins(said: str, number: int) -> bool:
    """Return whether *said* has the *number* of pins and a time 24 hours from now, by its date."""
    now = datetime.fromtimestamp(SystemClock().now(), UTC)
    # A pin is some seconds old, and midnight may have passed.
    dates = {f"{now + timedelta(hours=24) - timedelta(minutes=minutes):%Y-%m-%d}" for minutes in (0, 10)}
    return re.search(rf"\b{number}\b", said) is not None and any(date in said for date in dates)
