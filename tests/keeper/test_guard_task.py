from pathlib import Path

from proxy.events import CallerHeld, GuardHindered, MigrationRolledBack
from proxy.migration.side import Side
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.values import snapshot_of
from tests.keeper.guarded import CALLERS, DATABASE, config, guarding, settings_in
from tests.keeper.migrating import BY
from tests.keeper.test_migrations import of
from tests.records.kept import kept, record
from tests.upstream.support import eventually


async def test_refusals_of_two_callers_take_the_migration_back(tmp_path: Path) -> None:
    """To the weight before, on record as the guard's, with the reason; the operator hears of the legacy token."""
    async with guarding(tmp_path) as made:
        made.end("erp", "refused")
        await made.does_nothing()
        made.end("crm", "refused")

        reason = "the modern token was refused to 2 callers within 5 minutes: crm, erp"
        assert await made.acts() == MigrationRolledBack(
            migration="payments", weight_before=50, weight=10, reason=reason, legacy_token_at_hand=True
        )
        assert made.keeper.weight == 10
        operation = made.keeper.operations[-1]
        assert (operation.who, operation.proof, operation.what, operation.reason) == (
            "guard",
            "guard",
            "migration rollback",
            reason,
        )


async def test_the_same_evidence_serves_once_and_new_evidence_again(tmp_path: Path) -> None:
    """What ended before the rollback and comes late is nothing; what comes at the lower weight takes that away too."""
    async with guarding(tmp_path) as made:
        for caller in CALLERS:
            made.end(caller, "refused")
        await made.acts()
        for caller in CALLERS:
            made.end(caller, "refused")
        await made.does_nothing()
        assert made.keeper.weight == 10

        for caller in CALLERS:
            made.end(caller, "failed", 3)
        event = await made.acts()
        assert isinstance(event, MigrationRolledBack)
        assert (event.weight_before, event.weight) == (10, 0)
        await made.clock.advance(1)
        for caller in CALLERS:
            made.end(caller, "failed", 20)
        await made.does_nothing()


async def test_one_caller_that_fails_is_held(tmp_path: Path) -> None:
    """The weight stays; what it sends to modern from then on counts no more, and two others still do."""
    async with guarding(tmp_path) as made:
        made.end("crm", "ok", 20)
        made.end("erp", "failed", 3)

        event = await made.acts()
        assert isinstance(event, CallerHeld)
        assert event.caller == "erp"
        assert made.keeper.payments.guard_pinned == ("erp",)
        assert made.keeper.weight == 50
        await made.clock.advance(1)
        made.end("erp", "refused", 10)
        made.end("crm", "refused")
        await made.does_nothing()
        made.end("shop", "refused")
        assert isinstance(await made.acts(), MigrationRolledBack)


async def test_a_minute_without_modern_mints_takes_the_migration_back(tmp_path: Path) -> None:
    """While nobody has sent anything; and at the lower weight another minute does."""
    async with guarding(tmp_path) as made:
        made.mints(modern="token_unavailable")
        await made.clock.advance(60)
        assert made.events == []
        await made.clock.advance(2)
        event = await made.acts()
        assert isinstance(event, MigrationRolledBack)
        assert (event.weight_before, event.weight) == (50, 10)
        await made.clock.advance(59)
        assert made.keeper.weight == 10
        await made.clock.advance(3)
        await eventually(lambda: made.keeper.weight == 0)


async def test_while_legacy_mints_fail_too_it_stays(tmp_path: Path) -> None:
    """It is the network, and there is nothing to go back to; the operator hears if there is no token."""
    async with guarding(tmp_path) as made:
        made.mints(modern="token_unavailable", legacy="token_unavailable")
        await made.clock.advance(200)
        await made.does_nothing()
        made.keeper.tokens = (of("modern"),)
        for caller in CALLERS:
            made.end(caller, "refused")
        event = await made.acts()
        assert isinstance(event, MigrationRolledBack)
        assert not event.legacy_token_at_hand


async def test_what_the_log_knows_of_legacy_is_weighed(tmp_path: Path) -> None:
    """35 days of it, the time before there were sides too; also what this process saw where the log says nothing."""
    data = tmp_path / "payproxy-data"
    data.mkdir()
    sink = SqliteSink(data / DATABASE)
    now = 1_800_000_000.0
    bad = [
        record(now - day * 86400, caller=caller, side=side, credential="adfs", status=503)
        for day in (1, 20, 33)
        for caller in CALLERS
        for side in ("legacy", "")
    ]
    good = [record(now - 40 * 86400, caller="erp", side="legacy", status=200) for _ in range(100)]
    await sink.write(kept([*bad, *good, record(now, caller="crm", side="", credential="other", status=200)]))
    await sink.close()
    async with guarding(tmp_path) as made:
        await eventually(lambda: made.guard.past.of("payments").keys() == set(CALLERS))
        for caller in CALLERS:
            made.end(caller, "failed", 10)
        await made.does_nothing()


async def test_what_came_since_the_log_was_read_is_weighed(tmp_path: Path) -> None:
    """A new proxy's log is nearly empty when it is read, and the next time is an hour away."""
    data = tmp_path / "payproxy-data"
    data.mkdir()
    sink = SqliteSink(data / DATABASE)
    await sink.write(kept([record(1_800_000_000.0, caller="erp", side="legacy", credential="adfs", status=200)]))
    await sink.close()
    async with guarding(tmp_path) as made:
        await eventually(lambda: made.guard.past.of("payments").keys() == {"erp"})
        for caller in CALLERS:
            made.end(caller, "client_error", 5, side=Side.LEGACY, status=422)
        for caller in CALLERS:
            made.end(caller, "client_error", 5, status=422)
        await made.does_nothing()


async def test_without_a_database_it_goes_by_what_it_has_seen(tmp_path: Path) -> None:
    """A 403 counts for a caller that had a 2xx on legacy; failures that legacy had too don't."""
    async with guarding(tmp_path, text=config(log='database = ""')) as made:
        made.end("erp", "forbidden", 3, status=403)
        await made.does_nothing()
        made.end("crm", "ok", side=Side.LEGACY)
        made.end("shop", "failed", side=Side.LEGACY, status=503)
        made.end("shop", "failed", 3, status=503)
        await made.does_nothing()
        made.end("crm", "forbidden", 3, status=403)
        event = await made.acts()
        assert isinstance(event, CallerHeld)
        assert event.caller == "crm"


async def test_a_log_that_cant_be_read_is_told_and_does_no_harm(tmp_path: Path) -> None:
    """Once, not every minute."""
    data = tmp_path / "payproxy-data"
    data.mkdir()
    (data / "requests-2027-01.db").write_bytes(b"no database" * 100)
    async with guarding(tmp_path) as made:
        event = await made.acts()
        assert isinstance(event, GuardHindered)
        assert "the log can't be read" in event.cause
        await made.clock.advance(200)
        for caller in CALLERS:
            made.end(caller, "failed", 3)
        assert isinstance(await made.acts(), MigrationRolledBack)


async def test_what_cant_be_put_on_record_is_tried_again(tmp_path: Path) -> None:
    """Every second, and said once."""
    async with guarding(tmp_path) as made:
        made.keeper.log_works = False
        made.mints(modern="token_refused")
        await made.clock.advance(70)
        event = await made.acts()
        assert isinstance(event, GuardHindered)
        await made.does_nothing()
        made.keeper.log_works = True
        await made.clock.advance(1)
        assert isinstance(await made.acts(), MigrationRolledBack)


async def test_the_only_caller_there_is_rolls_back(tmp_path: Path) -> None:
    """Those that are pinned to legacy are none; and without any configured it is the anonymous one."""
    for number, text in enumerate(
        (config(callers=["erp", "crm"], migration='pin = { legacy = ["crm"] }'), config(callers=["erp"]))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with guarding(folder, text=text) as made:
            made.end("erp", "failed", 3)
            assert isinstance(await made.acts(), MigrationRolledBack)
    folder = tmp_path / "anonymous"
    folder.mkdir()
    async with guarding(folder, text=config(callers=[])) as made:
        made.end("", "client_error", 3)
        assert isinstance(await made.acts(), MigrationRolledBack)


async def test_the_configured_shares_count(tmp_path: Path) -> None:
    """And a reload that changes nothing of the migration destroys no evidence."""
    text = config(migration="max_failure_ratio = 0.5\nmax_client_error_ratio = 1.0")
    async with guarding(tmp_path, text=text) as made:
        made.end("erp", "ok", 2)
        made.end("erp", "failed", 2)
        made.end("crm", "client_error", 5)
        await made.does_nothing()
        settings = settings_in(tmp_path, text)
        made.guard.follow(settings, snapshot_of(settings, instance="host-1"))
        made.end("erp", "failed", 1)
        assert isinstance(await made.acts(), CallerHeld)


async def test_an_operators_change_starts_anew(tmp_path: Path) -> None:
    """What ended before it doesn't count against the new weight."""
    async with guarding(tmp_path) as made:
        made.end("erp", "failed", 2)
        made.end("crm", "ok", 10)
        await made.keeper.migrations.set("payments", 60, **BY)
        made.end("crm", "failed", 2)
        await made.does_nothing()
        assert made.keeper.weight == 60
