import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LogUnavailable
from proxy.keeper.recorded_changes import MigrationRefused
from proxy.keeper.replication import Replication
from proxy.link.messages import MigrationStates
from proxy.migration.pin import RetryPin
from proxy.migration.side import Policy, Side
from proxy.migration.state import MigrationState
from proxy.telemetry.status import TokenStatus
from tests.keeper.migrating import BY, MASK, OTHER_SIDES, PAYMENTS, Migrating, configured
from tests.support.clock import ManualClock
from tests.telemetry.support import token
from tests.upstream.support import eventually

CARD = "4111111111111111"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJlc2lnbmF0dXJl"


def of(side: str, **changes: object) -> TokenStatus:
    """Return a token of a side of the migration."""
    values = getattr(PAYMENTS, side)
    return token(credential=values.credential, audience=values.audience, scope=values.scope, **changes)


async def test_a_new_table_is_legacy(tmp_path: Path) -> None:
    """Adding it moves nothing, and nothing is written."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()

    [status] = migrations.states()
    assert (status.weight, status.version, status.phase, status.last_good) == (0, 0, "legacy", 0)
    assert keeper.told() == (0, 0, [])
    assert keeper.message.readable


async def test_a_weight_is_on_record_then_in_force_then_there_after_a_restart(tmp_path: Path) -> None:
    """The record has who, why, and the weight and version before and after."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()

    status = await migrations.set("payments", 10, **BY)
    status = await migrations.set("payments", 50, **BY)

    assert (status.weight, status.version, status.who, status.reason, status.last_good) == (50, 2, "op", "week two", 10)
    assert keeper.weight == 50
    last = keeper.operations[-1]
    assert (last.who, last.proof, last.what, last.reason) == ("op", "unix socket", "migration set", "week two")
    assert dict(last.values) == {
        "migration": "payments",
        "old_weight": "10",
        "old_version": "1",
        "weight": "50",
        "version": "2",
    }
    again = Migrating(directory=tmp_path)
    [status] = (await again.open()).states()
    assert (status.weight, status.version, status.who, status.when) == (50, 2, "op", status.when)
    assert again.weight == 50


@pytest.mark.parametrize("change", ["set", "rollback", "finish"])
async def test_a_reason_is_kept_as_records_have_it(tmp_path: Path, change: str) -> None:
    """A card number or token in it is masked in the status, the file, the log and the record; masked twice is once."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 100, **BY)
    by = BY | {"reason": f"moving {CARD} {TOKEN}"}
    if change == "set":
        status = await migrations.set("payments", 50, **by, force=True)
    elif change == "rollback":
        status = await migrations.rollback("payments", **by, force=True)
    else:
        status = await migrations.finish("payments", **by)

    masked = MASK.text(by["reason"])
    assert masked.startswith("moving 4111…11#")
    assert MASK.text(masked) == masked
    assert (status.reason, keeper.operations[-1].reason) == (masked, masked)
    assert (await Migrating(directory=tmp_path).open()).weights.state("payments").reason == masked
    assert masked in keeper.said[-1]


async def test_a_reason_that_came_unmasked_is_shown_masked(tmp_path: Path) -> None:
    """From an earlier version's file or another replica; what is kept stays what the others have."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    given = MigrationState(version=7).at(40, who="x", when=1.0, reason=f"moving {CARD} {TOKEN}")
    await migrations.weights.merge({"payments": given})
    with pytest.raises(MigrationRefused) as refused:
        await migrations.set("payments", 50, version=1, **BY)

    [status] = migrations.states()
    for shown in (status.reason, keeper.said[-1], str(refused.value)):
        assert MASK.text(given.reason) in shown
        assert CARD not in shown
        assert TOKEN not in shown
    assert migrations.weights.state("payments").reason == given.reason


async def test_what_cannot_be_put_on_record_is_not_done(tmp_path: Path) -> None:
    """Neither up nor down."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 50, **BY)
    keeper.log_works = False

    with pytest.raises(LogUnavailable):
        await migrations.set("payments", 60, **BY)
    with pytest.raises(LogUnavailable):
        await migrations.rollback("payments", **BY)

    assert keeper.weight == 50
    assert migrations.states()[0].version == 1


async def test_a_rollback_goes_down_step_by_step(tmp_path: Path) -> None:
    """To the last weight without a breach each time, or to the one that is named; never up."""
    migrations = await Migrating(directory=tmp_path).open()
    for weight in (10, 30, 60):
        await migrations.set("payments", weight, **BY)

    assert (await migrations.rollback("payments", **BY)).weight == 30
    assert (await migrations.rollback("payments", **BY)).weight == 10
    assert (await migrations.rollback("payments", **BY, to=4)).weight == 4
    with pytest.raises(MigrationRefused, match="is not lower"):
        await migrations.rollback("payments", **BY, to=4)
    with pytest.raises(MigrationRefused, match=r"changed meanwhile: weight 4, version 6, .*goes to 0 now"):
        await migrations.rollback("payments", **BY, version=5)
    assert (await migrations.rollback("payments", **BY)).weight == 0
    with pytest.raises(MigrationRefused, match="is not lower"):
        await migrations.rollback("payments", **BY)


@pytest.mark.parametrize(
    ("weight", "change", "why"),
    [
        (101, {}, "from 0 to 100"),
        (-1, {}, "from 0 to 100"),
        (50, {"reason": " "}, "needs a reason"),
        (50, {"version": 7}, "changed meanwhile"),
        (20, {}, "has the weight 20 already"),
    ],
    ids=str,
)
async def test_a_change_that_is_refused_changes_nothing(
    tmp_path: Path, weight: int, change: dict[str, object], why: str
) -> None:
    """Nor is it on record."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 20, **BY)

    with pytest.raises(MigrationRefused, match=why):
        await migrations.set("payments", weight, **(BY | change))

    assert (keeper.weight, len(keeper.operations)) == (20, 1)


async def test_a_name_that_is_no_table_is_refused(tmp_path: Path) -> None:
    """A state without a table would move nobody."""
    migrations = await Migrating(directory=tmp_path).open()

    with pytest.raises(MigrationRefused, match=r"no \[migrations.other\]"):
        await migrations.set("other", 10, **BY)


async def test_two_changes_at_once_follow_each_other(tmp_path: Path) -> None:
    """Of two that both saw version 0, one is made."""
    migrations = await Migrating(directory=tmp_path).open()

    done = await asyncio.gather(
        *(migrations.set("payments", weight, version=0, **BY) for weight in (10, 20)), return_exceptions=True
    )

    assert sorted(isinstance(one, MigrationRefused) for one in done) == [False, True]
    assert migrations.states()[0].version == 1


async def test_the_guard_holds_a_caller_until_an_operator_lets_it_go(tmp_path: Path) -> None:
    """The weight stays; holding it again is no new version; it survives a restart."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 50, **BY)

    await migrations.hold_caller("payments", "erp", "three 403 in a row")
    await migrations.hold_caller("payments", "erp", "a fourth")

    assert keeper.told() == (50, 2, ["erp"])
    assert (keeper.operations[-1].who, keeper.operations[-1].reason) == ("guard", "three 403 in a row")
    again = Migrating(directory=tmp_path)
    migrations = await again.open()
    assert migrations.states()[0].guard_pinned == ("erp",)
    await migrations.set("payments", 50, **BY, release=frozenset({"erp"}))
    assert again.told() == (50, 3, [])


async def test_tokens_of_both_sides_are_told(tmp_path: Path) -> None:
    """At every weight: 0 is the dry run, and a rollback says whether a legacy token is available."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    assert not migrations.states()[0].legacy_token_at_hand

    keeper.tokens = (of("legacy"), of("modern", error_code="token_refused"), token(credential="other"))

    [status] = migrations.states()
    assert (status.legacy_token_at_hand, status.modern_token_at_hand) == (True, True)
    assert [one.error_code for one in status.modern_tokens] == ["token_refused"]


async def test_a_table_is_finished_before_it_goes(tmp_path: Path) -> None:
    """At any weight, unless it has never moved anyone; and its routes keep the credential that it ended with."""
    migrations = await Migrating(directory=tmp_path).open()
    assert migrations.objection(configured()) == ""
    for weight in (50, 100):
        await migrations.set("payments", weight, **BY)
        assert "payproxy migration finish payments" in migrations.objection(configured(credential="login"))
        assert migrations.objection(configured(PAYMENTS)) == ""
    assert (await migrations.finish("payments", **BY)).finished

    assert migrations.objection(configured(credential="login")) == ""
    assert 'credential = "login"' in migrations.objection(configured())


async def test_on_the_ramp_the_greater_side_stays(tmp_path: Path) -> None:
    """Only by force."""
    migrations = await Migrating(directory=tmp_path).open()
    await migrations.set("payments", 40, **BY)
    with pytest.raises(MigrationRefused, match="finished only at 0 or 100"):
        await migrations.finish("payments", **BY)
    assert (await migrations.finish("payments", **BY, force=True)).finished
    assert migrations.objection(configured()) == ""
    assert 'credential = "adfs"' in migrations.objection(configured(credential="login"))


async def test_open_pins_keep_a_table(tmp_path: Path) -> None:
    """A retry that must go to the side that is left would go to the other: how many, and until when, is said."""
    migrations = await Migrating(directory=tmp_path).open()
    await migrations.set("payments", 100, **BY)
    until = SystemClock().now() + 3600
    await migrations.pins.keep({f"{1:016x}": RetryPin(Side.LEGACY, "bank", until, "payments")})

    with pytest.raises(MigrationRefused, match=r"1 retry pin \(1 to legacy\), the last until 20"):
        await migrations.finish("payments", **BY)
    await migrations.finish("payments", **BY, force=True)
    assert migrations.objection(configured(credential="login")) == ""


async def test_a_pin_that_comes_after_the_end_keeps_the_table(tmp_path: Path) -> None:
    """Unless it names the side that stays."""
    migrations = await Migrating(directory=tmp_path).open()
    await migrations.set("payments", 100, **BY)
    await migrations.finish("payments", **BY)
    until = SystemClock().now() + 3600
    await migrations.pins.keep({f"{1:016x}": RetryPin(Side.MODERN, "bank", until, "payments")})
    assert migrations.objection(configured(credential="login")) == ""

    await migrations.pins.keep({f"{2:016x}": RetryPin(Side.LEGACY, "bank", until, "payments")})
    assert "1 retry pin (1 to legacy)" in migrations.objection(configured(credential="login"))


async def test_what_was_in_force_is_known_after_a_restart(tmp_path: Path) -> None:
    """Tables are not taken away, renamed or robbed of a route while nobody runs."""
    first = Migrating(directory=tmp_path)
    await (await first.open()).set("payments", 100, **BY)

    again = Migrating(directory=tmp_path).migrations
    await again.open()

    renamed = replace(PAYMENTS, name="pay")
    for tables in ((), (renamed,), (replace(PAYMENTS, routes=("other",)),), (OTHER_SIDES,)):
        assert "payproxy migration finish payments" in again.objection(configured(*tables))
    assert again.objection(configured(PAYMENTS)) == ""


async def test_another_rule_does_not_take_payments_away(tmp_path: Path) -> None:
    """Neither while we run nor at a start; it may, once the migration is finished or if nobody was ever moved."""
    migrations = await Migrating(directory=tmp_path).open()
    now = configured(PAYMENTS)
    await migrations.follow((PAYMENTS,), now.routes)
    more = replace(now, routes=(replace(now.routes[0], name="new", path="/pay/v2"), *now.routes))
    assert migrations.objection(more) == ""
    await migrations.set("payments", 100, **BY)

    assert "would go to the rule new" in migrations.objection(more)

    again = Migrating(directory=tmp_path).migrations
    await again.open()
    assert "would go to the rule new" in again.objection(more)
    await migrations.finish("payments", **BY)
    assert migrations.objection(more) == ""


async def test_a_table_that_is_there_again_begins_at_0(tmp_path: Path) -> None:
    """Adding a table moves nobody, also where one of its name was finished at 100."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 100, **BY)
    await migrations.finish("payments", **BY)
    await migrations.follow((PAYMENTS,))
    assert keeper.weight == 100

    await migrations.follow(())
    await migrations.follow((PAYMENTS,))

    assert keeper.weight == 0
    assert keeper.operations[-1].reason == "this table was added again after the migration was finished"
    assert not migrations.states()[0].finished


async def test_a_table_that_is_there_again_begins_at_0_at_the_second_try(tmp_path: Path) -> None:
    """The first broke off half-way, after the tables were known."""
    it = Migrating(directory=tmp_path)
    migrations = await it.open()
    await migrations.set("payments", 100, **BY)
    await migrations.finish("payments", **BY)
    await migrations.follow(())

    async def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations._recorded, "record", breaks)
        with pytest.raises(ZeroDivisionError):
            await migrations.follow((PAYMENTS,))
    await migrations.follow((PAYMENTS,))

    assert it.weight == 0
    await migrations.close()


async def test_a_handover_that_was_objected_to_is_taken_back_for_other_replicas(tmp_path: Path) -> None:
    """They would otherwise go on with how the refused configuration chooses sides."""
    published: list[Mapping[str, Policy]] = []

    class Others(Replication):
        async def decide_by(self, *policies: Mapping[str, Policy]) -> None:
            published[:] = policies

    it = Migrating(directory=tmp_path)
    migrations = await it.open()
    migrations.replication = Others()
    pinned = replace(PAYMENTS, pinned_legacy=("erp",))

    await migrations.hand_over(configured(pinned))
    assert [one["payments"].pinned for one in published] == [{"erp": Side.LEGACY}]
    await migrations.hand_over(configured(PAYMENTS))

    assert [one["payments"].pinned for one in published] == [{}]
    await migrations.close()


async def test_a_change_that_is_not_on_disk_is_said(tmp_path: Path) -> None:
    """By whoever made it, and until it is."""
    migrations = await Migrating(directory=tmp_path).open()
    await migrations.set("payments", 50, **BY)
    obstacle = tmp_path / ".migrations.json.new"
    obstacle.mkdir()

    status = await migrations.rollback("payments", **BY)

    assert status.weight == 0
    assert "can't be written" in status.unsaved
    assert "can't be written" in migrations.problem
    obstacle.rmdir()
    await migrations.weights.look_after()
    assert migrations.states()[0].unsaved == ""


async def test_another_table_under_the_name_begins_at_0(tmp_path: Path) -> None:
    """Adding a table moves nothing, whatever had its name before; its new worker hears so before it takes over."""
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()
    await migrations.set("payments", 100, **BY)
    await migrations.follow(())
    await migrations.follow((PAYMENTS,))
    assert keeper.weight == 100

    [message, *_] = migrations.messages((OTHER_SIDES,))
    await migrations.follow((OTHER_SIDES,))

    assert isinstance(message, MigrationStates)
    assert message.states["payments"].weight == 0
    assert (keeper.weight, migrations.states()[0].version) == (0, 2)
    assert keeper.operations[-1].what == "migration begin"
    await migrations.set("payments", 10, **BY)
    await migrations.follow((OTHER_SIDES,))
    assert keeper.weight == 10


@pytest.mark.parametrize("data", [b"{", b'{"format":2}'], ids=repr)
async def test_a_file_that_cannot_be_used(tmp_path: Path, data: bytes) -> None:
    """Everybody is on legacy, retry pins count as unreadable where they matter, and nothing is written over it."""
    path = tmp_path / "migrations.json"
    path.write_bytes(data)
    keeper = Migrating(directory=tmp_path)
    migrations = await keeper.open()

    assert str(path) in migrations.problem
    assert keeper.told() == (0, 1, [])
    assert keeper.message.readable is False
    with pytest.raises(MigrationRefused, match="move it away"):
        await migrations.set("payments", 10, **BY)
    assert path.read_bytes() == data


async def test_a_file_that_was_mended_is_taken(tmp_path: Path) -> None:
    """Within a second, without a restart; the log says both."""
    first = await Migrating(directory=tmp_path).open()
    await first.set("payments", 30, **BY)
    path = tmp_path / "migrations.json"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    clock = ManualClock()
    keeper = Migrating(directory=tmp_path, clock=clock)
    await keeper.open()
    running = asyncio.create_task(keeper.migrations.run())
    await clock.advance(0)
    assert keeper.weight == 0
    assert "can't be used" in keeper.said[-1]

    path.write_bytes(good)
    await _after_a_look(clock, keeper)

    assert (keeper.weight, keeper.message.readable) == (30, True)
    assert "can be read and written again" in keeper.said[-1]
    running.cancel()


async def test_a_rollback_needs_no_disk(tmp_path: Path) -> None:
    """It is in force at once and written down later; a weight does not grow on what would be forgotten."""
    clock = ManualClock()
    keeper = Migrating(directory=tmp_path, clock=clock)
    migrations = await keeper.open()
    running = asyncio.create_task(migrations.run())
    await migrations.set("payments", 50, **BY)
    obstacle = tmp_path / ".migrations.json.new"
    obstacle.mkdir()

    with pytest.raises(MigrationRefused, match="stays at 50"):
        await migrations.set("payments", 60, **BY)
    assert (keeper.weight, migrations.states()[0].version) == (50, 1)
    status = await migrations.rollback("payments", **BY)

    assert (status.weight, keeper.weight) == (0, 0)
    assert "can't be written" in migrations.problem
    obstacle.rmdir()
    await _after_a_look(clock, keeper)
    assert not migrations.problem
    assert json.loads((tmp_path / "migrations.json").read_bytes())["migrations"]["payments"]["weight"] == 0
    running.cancel()


async def test_an_unread_journal_makes_pins_unreadable(tmp_path: Path) -> None:
    """What a crash left may have to be pinned."""
    keeper = Migrating(directory=tmp_path, recovered=False)
    migrations = await keeper.open()

    assert not migrations.readable
    assert "journal" in migrations.problem
    keeper.recovered = True
    assert migrations.readable
    assert not migrations.problem


async def test_without_a_table_there_is_no_problem(tmp_path: Path) -> None:
    """Whatever lies in the directory."""
    (tmp_path / "migrations.json").write_text("{")
    migrations = await Migrating(directory=tmp_path).open(())

    assert not migrations.problem


async def _after_a_look(clock: ManualClock, keeper: Migrating) -> None:
    """Let the next look at the files, which happens in threads, come to its end."""
    said = len(keeper.said)
    await clock.advance(1.0)
    await eventually(lambda: len(keeper.said) > said)
