"""The guard beside real slots, whose legacy endpoint is the simulator and whose modern one is not there."""

import asyncio
from itertools import count
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.events import Event, MigrationRolledBack
from proxy.keeper.guard_task import MigrationGuard
from proxy.keeper.token_manager import TokenManager
from proxy.routing.compile import route_table
from proxy.settings.values import snapshot_of
from proxy.simulator.server import Bank, simulator
from proxy.telemetry.status import TokenStatus
from tests.keeper.guarded import config, settings_in
from tests.keeper.migrating import BY, Migrating
from tests.support.clock import ManualClock
from tests.tokens.support import credential
from tests.upstream.support import eventually

GONE = "http://127.0.0.1:1/token"


def mints_of(folder: Path, bank: Bank, clock: ManualClock, *, modern: str, legacy: str) -> TokenManager:
    """Return slots for both sides of the migration, with the token endpoints *modern* and *legacy*."""
    bank.world.register_secret_client("client", "canary-secret")
    snapshot = snapshot_of(settings_in(folder, config()), instance="host-1")
    return TokenManager(
        route_table(snapshot),
        {"login": credential(modern, name="login"), "adfs": credential(legacy, name="adfs")},
        clock=clock,
        entropy=SystemEntropy(),
        observe=lambda _: None,
        broadcast=lambda _: None,
        serial=count(1),
    )


def tried(mints: TokenManager) -> dict[str, TokenStatus]:
    """Return each credential's token."""
    return {one.credential: one for one in mints.statuses()}


@pytest.mark.parametrize("down", ["modern", "both", "none"])
async def test_a_modern_endpoint_that_is_down_for_a_minute_ends_the_ramp(tmp_path: Path, down: str) -> None:
    """If legacy's serves; the slots try as often as they do, and no caller need send anything."""
    clock = ManualClock()
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        there = f"{bank.url}/am/oauth2/alpha/access_token"
        mints = mints_of(
            tmp_path,
            bank,
            clock,
            modern=there if down == "none" else GONE,
            legacy=GONE if down == "both" else there,
        )
        settings = settings_in(tmp_path, config())
        snapshot = snapshot_of(settings, instance="host-1")
        keeper = Migrating(directory=Path(snapshot.data_directory), clock=clock)
        migrations = await keeper.open(snapshot.migrations)
        await migrations.set("payments", 50, **BY)
        events: list[Event] = []
        guard = MigrationGuard(migrations, tokens=mints.statuses, clock=clock, observe=events.append)
        guard.follow(settings, snapshot)
        tasks = [asyncio.create_task(mints.run()), asyncio.create_task(guard.run())]
        try:
            await eventually(lambda: all(one.tried for one in mints.statuses()))
            keeper.tokens = mints.statuses()
            for _ in range(64):
                await clock.advance(1)
                # A slot that is trying does so over the network, which this clock knows nothing of.
                await asyncio.sleep(0.005)
            assert bool(tried(mints)["login"].error_code) is (down != "none")
            if down == "modern":
                await eventually(lambda: bool(events))
                [event] = events
                assert isinstance(event, MigrationRolledBack)
                assert "no modern token could be had for 6" in event.reason
                assert event.legacy_token_at_hand
                assert keeper.weight == 0
            else:
                assert events == []
                assert keeper.weight == 50
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await migrations.close()
