"""Thirty callers without patience, faults at both banks, weights that change all the time, processes that are killed.

PAYPROXY_STORM_SECONDS says how long (20), PAYPROXY_STORM_SEED how it goes; the summary of a failure names the seed.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again

import pytest

from proxy.cli.instance import Denied, NotRunning
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, records
from tests.journeys.process import Instance, kill
from tests.journeys.storm import NO_CONNECTION, Storm, Try
from tests.journeys.two_banks import Fault, TwoBanks, answers, configured, drawn, two_banks
from tests.journeys.waiting import until
from tests.journeys.weights import set_weight

SECONDS = float(os.environ.get("PAYPROXY_STORM_SECONDS", "20"))
SEED = int(os.environ.get("PAYPROXY_STORM_SEED", "0")) or int(SystemEntropy().uniform(1, 1e6))
CALLERS = tuple(f"erp-{number:02}" for number in range(1, 31))
WEIGHTS = (0, 20, 50, 80, 100)
CHANGE_SECONDS = 0.5
# A worker, then the keeper, and so on.
KILL_SECONDS = 5.0
# Modern has no token so often and for so long; fallback is what serves then.
TOKENLESS_SECONDS, TOKENLESS_FOR_SECONDS = 8.0, 1.0
# So long after a kill refusals are no defect.
AFTER_KILL_SECONDS = 2.0
LARGEST_SHARE_OF_REFUSALS = 0.01
LAST_SECONDS = 30.0
LATENCY_SECONDS = 0.02
FAULTS = {
    Fault.HANG: 0.02,
    Fault.FAIL: 0.02,
    Fault.RESET: 0.02,
    Fault.REFUSE: 0.002,
    Fault.SLOW: 0.1,
}
UPSTREAM = "response_timeout = 1.0"
_TOLD = 5


@dataclass(kw_only=True)
class Scene:
    """What runs, and what was done to it: times by the loop's clock."""

    banks: TwoBanks
    directory: Path
    configuration: Path
    start: Start
    instance: Instance
    weights: list[tuple[float, str]] = field(default_factory=list)
    kills: list[tuple[float, float, str]] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    # What the log has of each try, once all is over.
    records: dict[str, Record] = field(default_factory=dict)

    def read_log(self) -> None:
        """Read the log file."""
        self.records = {one["index"]["X-Try"]: one for one in records(self.directory) if "X-Try" in one["index"]}

    def finished(self, record: Record) -> float:
        """Return when the exchange of *record* ended, by the loop's clock."""
        started = datetime.fromisoformat(record["time"]).timestamp()
        ended = started + float(record["duration_ms"]) / 1000
        return ended - SystemClock().now() + asyncio.get_running_loop().time()

    async def change_weights(self, chance: Random) -> None:
        """Set another weight every half second; whom the guard has held meanwhile is let go."""
        weight = 0
        while True:
            await asyncio.sleep(CHANGE_SECONDS)
            weight = chance.choice([one for one in WEIGHTS if one != weight])
            try:
                await set_weight(self.directory, weight, release=CALLERS)
            except (Denied, NotRunning) as error:
                self.changes[type(error).__name__] += 1
                said = f"not set to {weight}: {error}"
            else:
                self.changes["made"] += 1
                said = f"set to {weight}"
            self.weights.append((asyncio.get_running_loop().time(), said))

    async def revoke_tokens(self) -> None:
        """Have modern refuse its tokens and mint none for a while, again and again, and legacy refuse its own."""
        while True:
            await asyncio.sleep(TOKENLESS_SECONDS - TOKENLESS_FOR_SECONDS)
            self.banks.modern.token_fails = True
            self.banks.modern.revoke()
            await asyncio.sleep(TOKENLESS_FOR_SECONDS)
            self.banks.modern.token_fails = False
            self.banks.legacy.revoke()

    async def kill_processes(self) -> None:
        """Kill a worker, and the keeper, in turns, and start the keeper anew."""
        while True:
            await asyncio.sleep(KILL_SECONDS)
            await self._kill("worker", self._kill_worker)
            await asyncio.sleep(KILL_SECONDS)
            await self._kill("keeper", self._kill_keeper)

    async def _kill(self, what: str, how: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        # Until it is over nothing is held against anyone.
        self.kills.append((started, float("inf"), what))
        await how()
        self.kills[-1] = (started, loop.time() + AFTER_KILL_SECONDS, what)

    async def _kill_worker(self) -> None:
        [victim, *_] = await until(self.instance.serving, otherwise="no worker serves")
        kill(victim)

    async def _kill_keeper(self) -> None:
        await self.instance.kill()
        self.instance = await self.start(self.configuration)

    def excused(self, one: Try) -> bool:
        """Return whether *one* fell into the two seconds after a kill, counted from when all was there again."""
        return any(started <= one.ended and one.started <= ended for started, ended, _ in self.kills)


@pytest.mark.timeout(SECONDS + 600)
async def test_a_storm_moves_no_payment_to_the_other_side(tmp_path: Path, start: Start) -> None:
    """No key at both sides, no untrue sent_upstream in answers or in the log, few refusals, everyone served at last."""
    async with two_banks() as banks:
        configuration = configured(tmp_path, banks, callers=CALLERS, workers=2, upstream=UPSTREAM)
        scene = Scene(
            banks=banks,
            directory=tmp_path,
            configuration=configuration,
            start=start,
            instance=await start(configuration),
        )
        storm = Storm(address=lambda: scene.instance.address)
        for number, side in enumerate(banks.sides):
            side.decide, side.latency = drawn(FAULTS, seed=SEED + number), LATENCY_SECONDS
        callers = [
            asyncio.create_task(storm.works(name, seed=SEED + number), name=name) for number, name in enumerate(CALLERS)
        ]
        await _rages(scene)
        banks.decide(answers)
        banks.modern.token_fails = False
        storm.over, storm.until = True, asyncio.get_running_loop().time() + LAST_SECONDS
        await asyncio.gather(*callers)
        assert await scene.instance.stop() == 0
        scene.read_log()

        problems = [*_of_answers(scene, storm), *_of_the_log(scene)]
        told = "\n".join([*problems, _summary(scene, storm)])
        sys.stdout.write(told + "\n")  # pytest -rP shows it
        assert len(problems) == 0, told
        banks.check()


async def _rages(scene: Scene) -> None:
    """Have all that goes wrong go wrong for SECONDS; a kill that has begun is brought to its end."""
    chance = Random(SEED)  # noqa: S311 - no secret
    passing = [
        asyncio.create_task(scene.change_weights(chance), name="weights"),
        asyncio.create_task(scene.revoke_tokens(), name="tokens"),
    ]
    kills = asyncio.create_task(scene.kill_processes(), name="kills")
    try:
        await asyncio.wait((*passing, kills), timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        while not kills.done() and any(ended == float("inf") for _, ended, _ in scene.kills):
            await asyncio.wait((kills,), timeout=CHANGE_SECONDS)
    finally:
        for task in (*passing, kills):
            task.cancel()
        ended = await asyncio.gather(*passing, kills, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError):
            raise one


def _of_answers(scene: Scene, storm: Storm) -> list[str]:
    """Return what was wrong with what the callers got, and what shows that nothing was tested."""
    banks, problems = scene.banks, []
    twice = sorted(banks.twice())
    if twice:
        unread = sum(_was_answered_in_between(scene, storm, key) for key in twice)
        problems.append(
            f"{len(twice)} keys were accepted on both sides, {unread} of them after an answer that was sent, not read:"
        )
        problems += [_history(scene, storm, key) for key in twice[:_TOLD]]
    untrue = [one for one in storm.tries if one.sent == "no" and banks.reached(one.number)]
    untrue += [one for one in storm.tries if one.sent == "yes" and not banks.arrived(one.number)]
    if untrue:
        problems.append(f"{len(untrue)} answers with an untrue sent_upstream:")
        problems += [_history(scene, storm, one.key) for one in untrue[:_TOLD]]
    tries, refused = _outside_kills(scene, storm)
    if refused > LARGEST_SHARE_OF_REFUSALS * tries:
        problems.append(f"{refused} of {tries} tries outside kills were refused with side_unknown")
    if any(one.code == "side_unknown" for one in storm.reads):
        problems.append("reads were refused with side_unknown")
    if storm.unserved:
        problems.append(f"{len(storm.unserved)} payments were never served:")
        problems += [_history(scene, storm, key) for key in sorted(storm.unserved)[:_TOLD]]
    shares = [len(side.accepted) / max(1, len(storm.served)) for side in banks.sides]
    if scene.changes["made"] < SECONDS / CHANGE_SECONDS / 4 or min(shares) < 0.05:
        problems.append("the sides hardly changed: the storm showed nothing")
    return problems


def _of_the_log(scene: Scene) -> list[str]:
    """Return which records say "no" of what arrived at a bank."""
    untrue = [
        number for number, one in scene.records.items() if one["sent_upstream"] == "no" and scene.banks.reached(number)
    ]
    return [f"{len(untrue)} records with an untrue sent_upstream: {untrue[:_TOLD]}"] if untrue else []


def _outside_kills(scene: Scene, storm: Storm) -> tuple[int, int]:
    """Return how many tries outside kills came to a bank or were refused with side_unknown, and how many were refused.

    Callers without a pause make thousands of tries for which there is no token: these don't count.
    """
    outside = [one for one in storm.tries if not scene.excused(one)]
    refused = sum(one.code == "side_unknown" for one in outside)
    return sum(scene.banks.arrived(one.number) for one in outside) + refused, refused


def _summary(scene: Scene, storm: Storm) -> str:
    tries, refused = _outside_kills(scene, storm)
    all_refused = [one for one in storm.tries if one.code == "side_unknown"]
    outside = {one.key for one in all_refused if not scene.excused(one)}
    lines = [
        f"seed {SEED}, {SECONDS:g} s: {len(storm.served)} payments served in {len(storm.tries)} tries",
        f"side_unknown: {len(all_refused)} tries of {len({one.key for one in all_refused})} payments",
        f"outside kills: {refused} of {tries} tries ({refused / max(1, tries):.2%}) of {len(outside)} payments",
        f"kills: {', '.join(what for _, _, what in scene.kills)}; weights {dict(scene.changes)}",
        f"tries: {dict(Counter(map(str, storm.tries)).most_common())}",
        f"legacy/modern by the second: {_by_second(scene.banks)}",
    ]
    return "\n".join([*lines, scene.banks.summary()])


def _by_second(banks: TwoBanks) -> str:
    started = min(side.events[0][0] for side in banks.sides if side.events)
    legacy, modern = (Counter(int(at - started) for at, *_ in side.events) for side in banks.sides)
    return " ".join(f"{legacy[second]}/{modern[second]}" for second in range(max(legacy | modern) + 1))


def _was_answered_in_between(scene: Scene, storm: Storm, key: str) -> bool:
    """Return whether the second side accepted *key* after a definite answer had been sent, which was never read."""
    second = max(min(at for at, of, _, _ in side.events if of == key) for side in scene.banks.sides)
    found = [scene.records.get(one.number) for one in storm.tries if one.key == key]
    return any(
        one is not None and not one["caller_left"] and 200 <= one["status"] < 500 and scene.finished(one) < second
        for one in found
    )


def _history(scene: Scene, storm: Storm, key: str) -> str:
    """Return all that happened to *key*, in order, with the weights and kills around it."""
    tries = [one for one in storm.tries if one.key == key]
    first, last = min(one.started for one in tries), max(one.ended for one in tries)
    lines = [(at, f"weight {said}") for at, said in scene.weights if first - 1 < at < last + 1]
    lines += [(at, f"kill {what}") for at, _, what in scene.kills if first - 1 < at < last + 1]
    for one in (each for each in tries if each.outcome != NO_CONNECTION):
        lines += [(one.started, f"{one.number} sent"), (one.ended, f"{one.number} ended: {one}")]
    for one in tries:
        if (found := scene.records.get(one.number)) is not None:
            left = ", the caller had left" if found["caller_left"] else ""
            said = f"{found['side']} ({found['why']}), {found['status']} {found['code']}{found['note']}{left}"
            lines.append((scene.finished(found), f"{one.number} on record: {said}"))
    for side in scene.banks.sides:
        lines += [(at, f"{number} at {side.name}: {fault.name}") for at, of, number, fault in side.events if of == key]
    return "\n  ".join([f"  {key}:", *(f"{at - first:8.3f} {text}" for at, text in sorted(lines))])
