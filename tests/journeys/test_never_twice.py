"""Payments sent again at once while their side changes: never accepted by both sides, and served in the end.

Each round has everybody on one side, which accepts every payment and hangs; then the side changes (a rollback and a
raise in turns), and each payment is sent again with the same Idempotency-Key, half of them while the change is made,
half right after its command has returned. With two replicas the first try is at one of them, the second at the other.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.journeys.caller import Address, Answer, Connection, Request, ask, connected
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import private
from tests.journeys.two_banks import QUIET_GUARD, Side, TwoBanks, answers, configured, hangs, pays, table, two_banks
from tests.journeys.waiting import until
from tests.journeys.weights import roll_back, set_weight
from tests.support.redis import redis_server

KINDS = ("one worker", "two workers", "two replicas")
DELAYS_MS = (0, 2, 5, 10, 20, 50)
# 200 payments for each delay.
ROUNDS, IN_A_ROUND = 10, 20
# While the command runs, payments are sent again one after the other over so long.
_SPREAD_SECONDS = 0.03
_AGAIN_SECONDS = 0.02
_FRESH = 16
_CALLERS = ("erp-1", "erp-2", "erp-3", "erp-4")
_NO_PIN = "pin = {}"
_PIN = f"pin = {{ legacy = {list(_CALLERS)} }}".replace("'", '"')
_IN_FORCE = "is in force"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The instances with their directories: first tries go to *first*, retries to *last*, which may be the same."""

    first: tuple[Instance, Path]
    last: tuple[Instance, Path]

    async def command(self, number: int, *, back: bool) -> None:
        """Roll back, or raise the weight to 100; with two replicas at either in turns."""
        _, directory = self.first if number % 4 < 2 else self.last
        await (roll_back(directory) if back else set_weight(directory, 100))
        await until(lambda: self._are_at(0 if back else 100), otherwise="the weight did not come")

    async def reload(self, *, back: bool) -> None:
        """Have each instance read its file again, one after another: all callers are pinned to legacy, or none."""
        for instance, directory in dict([self.last, self.first]).items():
            path = directory / "payproxy.toml"
            text = path.read_text()
            path.write_text(text.replace(_NO_PIN, _PIN) if back else text.replace(_PIN, _NO_PIN))
            before = instance.stderr.read_text().count(_IN_FORCE)
            os.kill(instance.pid, signal.SIGHUP)
            await _taken(instance, before)

    async def _are_at(self, weight: int) -> bool:
        statuses = [await instance.status() for instance, _ in (self.first, self.last)]
        return {status["migrations"][0]["weight"] for status in statuses} == {weight}


async def _taken(instance: Instance, before: int) -> None:
    await until(lambda: instance.stderr.read_text().count(_IN_FORCE) > before, otherwise="it was not taken")


@dataclass(kw_only=True)
class Payment:
    """A payment whose first try hangs: *after* so many milliseconds it is sent again, meanwhile or later."""

    key: str
    caller: str
    delay_ms: int
    meanwhile: float | None  # seconds after the command began; None: once it has returned
    first: Connection
    again: Connection | None = None  # None: a new one when it is sent again
    refusals: int = 0
    answer: Answer | None = None


@dataclass(kw_only=True)
class Outcome:
    """What came of all rounds."""

    rounds: int
    payments: list[Payment] = field(default_factory=list)

    def check(self, banks: TwoBanks) -> None:
        """Check that nobody's payment is at both sides and everyone has been served."""
        twice = banks.twice()
        by_delay = Counter(f"{one.delay_ms} ms" for one in self.payments if one.key in twice)
        told = (
            f"of {len(self.payments)} payments {len(twice)} were accepted on both sides: {dict(by_delay)}; "
            f"{sum(one.refusals for one in self.payments)} refusals\n"
        )
        sys.stdout.write(told)  # pytest -rP shows it
        assert len(twice) == 0, told
        served = Counter(one.answer.status for one in self.payments if one.answer is not None)
        assert set(served) <= {200, 201}, served
        assert served.total() == len(self.payments) == len(DELAYS_MS) * IN_A_ROUND * self.rounds
        banks.check()


@pytest.mark.parametrize("proxies", KINDS)
@pytest.mark.parametrize("caller", ["leaves", "hedges"])
async def test_a_payment_sent_again_while_its_side_changes(
    tmp_path: Path, start: Start, proxies: str, caller: str
) -> None:
    """Its caller has left, or asks on another connection beside the first try: one side only, and an answer."""
    outcome, keys = Outcome(rounds=ROUNDS), count(1)
    async with two_banks() as banks, _proxies(proxies, tmp_path, banks, start) as running:
        await set_weight(running.first[1], 100)
        await _all_are_at((running.first, running.last), banks, banks.modern, keys)
        for number in range(ROUNDS):
            back = number % 2 == 0
            outcome.payments += await _round(
                running, banks, keys, partial(running.command, number, back=back), back=back, stays=caller == "hedges"
            )
            await _all_are_at((running.first, running.last), banks, banks.legacy if back else banks.modern, keys)
    outcome.check(banks)


@pytest.mark.parametrize("proxies", KINDS)
@pytest.mark.parametrize("caller", ["leaves", "hedges"])
async def test_a_payment_sent_again_while_a_reload_pins_its_caller(
    tmp_path: Path, start: Start, proxies: str, caller: str
) -> None:
    """New workers with a new table know what the old ones, and other replicas with the old table, have in flight.

    While the tables of two replicas differ, nothing with a key is sent that they would send to different sides.
    """
    rounds = 2
    outcome, keys = Outcome(rounds=rounds), count(1)
    async with two_banks() as banks, _proxies(proxies, tmp_path, banks, start) as running:
        await set_weight(running.first[1], 100)
        await _all_are_at((running.first, running.last), banks, banks.modern, keys)
        for number in range(rounds):
            back = number % 2 == 0
            outcome.payments += await _round(
                running, banks, keys, partial(running.reload, back=back), back=back, stays=caller == "hedges"
            )
            await _all_are_at((running.first, running.last), banks, banks.legacy if back else banks.modern, keys)
    outcome.check(banks)


async def _round(
    running: Proxies,
    banks: TwoBanks,
    keys: "count[int]",
    change: Callable[[], Awaitable[None]],
    *,
    back: bool,
    stays: bool,
) -> list[Payment]:
    """Have payments hang on one side, go to the other, and return them once all have been sent again and answered."""
    before = banks.modern if back else banks.legacy
    async with contextlib.AsyncExitStack() as stack:
        payments = await _in_flight(running, before, keys, stack)
        before.decide = answers
        started, changed = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for one in payments:
                tasks.create_task(_again(one, running, started, changed, stays=stays))
            started.set()
            await change()
            changed.set()
        # What hung is answered: to those who still wait, with the payment's answer.
        before.release()
        for one in payments if stays else ():
            assert (await one.first.answer()).status == 201
    return payments


async def _in_flight(
    running: Proxies, side: Side, keys: "count[int]", stack: contextlib.AsyncExitStack
) -> list[Payment]:
    """Return payments that *side* has accepted and does not answer, with a second connection for each.

    Each is sent on a connection that is new: a worker of before a reload soon closes what nobody uses.
    """
    payments = []
    side.decide = hangs
    for number in range(IN_A_ROUND):
        for delay in DELAYS_MS:
            one = Payment(
                key=f"key-{next(keys)}",
                caller=_CALLERS[number % len(_CALLERS)],
                delay_ms=delay,
                meanwhile=_SPREAD_SECONDS * number / IN_A_ROUND if number % 2 else None,
                first=await stack.enter_async_context(connected(running.first[0].address)),
            )
            one.first.send(pays(one.key, caller=one.caller))
            payments.append(one)
    await until(lambda: side.hanging == len(payments), otherwise=f"{side.name} did not get all")
    for number, one in enumerate(payments):
        if number // len(DELAYS_MS) % 4:
            one.again = await stack.enter_async_context(connected(running.last[0].address))
    return payments


async def _again(
    one: Payment, running: Proxies, started: asyncio.Event, changed: asyncio.Event, *, stays: bool
) -> None:
    """Send a payment again until it is answered otherwise than by side_unknown."""
    request = pays(one.key, caller=one.caller)
    if one.meanwhile is None:
        await changed.wait()
    else:
        await started.wait()
        await asyncio.sleep(one.meanwhile)
    if not stays:
        one.first.leave()
    if one.delay_ms:
        await asyncio.sleep(one.delay_ms / 1000)
    answer = await _answer(one.again, running.last[0].address, request)
    while answer.status == 503:
        assert (answer.json["code"], answer.json["sent_upstream"]) == ("side_unknown", "no"), answer.body
        one.refusals += 1
        await asyncio.sleep(_AGAIN_SECONDS)
        answer = await ask(running.last[0].address, request)
    one.answer = answer


async def _answer(connection: Connection | None, address: Address, request: Request) -> Answer:
    """Return the answer on *connection*, or on a new one if there is none, or it was closed before anything came."""
    if connection is not None:
        with contextlib.suppress(OSError, EOFError):
            connection.send(request)
            return await connection.answer()
    return await ask(address, request)


async def _all_are_at(places: Sequence[tuple[Instance, Path]], banks: TwoBanks, side: Side, keys: "count[int]") -> None:
    """Return once new payments in *places*, on connections of their own, go to *side*, so that the change is one."""

    async def fresh() -> bool:
        new = [pays(f"fresh-{next(keys)}", caller=_CALLERS[0]) for _ in range(_FRESH)]
        addresses = itertools.cycle([instance.address for instance, _ in places])
        answered = await asyncio.gather(*(ask(next(addresses), one) for one in new))
        return {(answer.status, banks.at(one.key)) for answer, one in zip(answered, new, strict=True)} == {
            (201, side.name)
        }

    await until(fresh, otherwise=f"new payments do not go to {side.name}")


@asynccontextmanager
async def _proxies(kind: str, directory: Path, banks: TwoBanks, start: Start) -> AsyncIterator[Proxies]:
    """Run what *kind* says for the block."""
    migration = table(more=f"{QUIET_GUARD}\n{_NO_PIN}")
    if kind != "two replicas":
        workers = 2 if kind == "two workers" else 1
        instance = await start(configured(directory, banks, callers=_CALLERS, workers=workers, migration=migration))
        yield Proxies((instance, directory), (instance, directory))
        return
    async with redis_server(directory) as redis:
        places = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            private(directory / name / "state.key", "5a" * 32)
            state = f'[state]\nurl = "{redis.url}"\nencryption_key_files = ["state.key"]\n'
            configuration = configured(
                directory / name, banks, callers=_CALLERS, workers=2, migration=migration, more=state
            )
            places.append((await start(configuration), directory / name))
        yield Proxies(*places)
