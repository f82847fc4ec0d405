import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.migration_plan import CallerMove, caller_moves
from proxy.migration.side import point
from proxy.settings.worker_values import MigrationValues
from tests.cli.migration_log import migrated, sent
from tests.cli.support import run
from tests.keeper.migrating import PAYMENTS


def plan(folder: Path) -> dict[str, Any]:
    """Return what `migration plan payments --json` says."""
    done = run("migration", "plan", "payments", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of(values: MigrationValues, *callers: str, held: tuple[str, ...] = ()) -> dict[str, CallerMove]:
    """Return the steps of *callers* by name, each with one request."""
    return {one.caller: one for one in caller_moves(values, callers=[], requests=dict.fromkeys(callers, 1), held=held)}


def test_callers_stand_in_the_order_in_which_they_move(tmp_path: Path) -> None:
    """With what they sent in 35 days on either side, and how much is on modern then."""
    migrated(
        tmp_path,
        *sent("erp", "", 60, days=34),
        *sent("erp", "legacy", 10, days=2),
        *sent("crm", "modern", 20, days=1),
        *sent("crm", "legacy", 50, days=40),
        *sent("gone", "legacy", 10, days=3),
    )

    found = plan(tmp_path)

    assert (found["migration"], found["weight"], found["days"], found["requests"]) == ("payments", None, 35, 100)
    callers = found["callers"]
    assert [one["moves_at"] for one in callers] == sorted(one["moves_at"] for one in callers)
    assert {one["caller"]: one["requests"] for one in callers} == {"erp": 70, "crm": 20, "gone": 10, "shop": 0}
    assert callers[-1]["modern_share"] == 1
    for one in callers:
        assert one["why"] == f"cohort {point('payments', one['caller']):.3f}"
        assert point("payments", one["caller"]) < one["moves_at"] / 100 <= point("payments", one["caller"]) + 0.01


def test_people_see_a_table(tmp_path: Path) -> None:
    """And that no instance runs which could tell the weight."""
    migrated(tmp_path, *sent("erp", "legacy", 3, days=2), migration='pin = { legacy = ["crm"], modern = ["shop"] }')

    done = run("migration", "plan", "payments", cwd=tmp_path)

    assert done.returncode == 0
    assert "the weight in force is not known" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "payments: routes payments; sticky = caller"
    assert lines[2].split() == ["0", "shop", "0", "0.0%", "0.0%", "pinned", "to", "modern"]
    assert lines[3].split()[1:5] == ["erp", "3", "100.0%", "100.0%"]
    assert lines[4].split() == ["never", "crm", "0", "0.0%", "100.0%", "pinned", "to", "legacy"]
    assert lines[-1] == "requests are those of the last 35 days by the log: 3"


def test_without_a_database_it_shows_who_moves(tmp_path: Path) -> None:
    """Not how much."""
    migrated(tmp_path, log='database = ""')
    found = plan(tmp_path)
    assert {one["caller"] for one in found["callers"]} == {"erp", "crm", "shop"}
    assert found["requests"] == 0


def test_a_migration_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the nearest name."""
    migrated(tmp_path)
    done = run("migration", "plan", "payment", cwd=tmp_path)
    assert done.returncode == 2
    assert "payments" in done.stderr


def test_held_callers_never_move() -> None:
    """Whatever their cohort, or pin."""
    found = of(PAYMENTS, "erp", "crm", held=("erp",))
    assert (found["erp"].moves_at, found["erp"].why) == (None, "the guard keeps it on legacy")
    assert found["crm"].moves_at is not None


@pytest.mark.parametrize(("sticky", "why"), [("header:X-Batch", "without X-Batch; with it, by its value")])
def test_what_is_spread_by_a_header_moves_whole_at_100_only(sticky: str, why: str) -> None:
    """Callers that don't send it."""
    values = MigrationValues(**{name: getattr(PAYMENTS, name) for name in PAYMENTS.__slots__} | {"sticky": sticky})
    found = of(values, "erp")
    assert (found["erp"].moves_at, found["erp"].why) == (100, why)
