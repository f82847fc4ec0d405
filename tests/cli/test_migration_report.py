import json
from pathlib import Path
from typing import Any

from tests.cli.migration_log import changed, migrated, sent
from tests.cli.support import run


def report(folder: Path) -> dict[str, Any]:
    """Return what `migration report payments --json` says."""
    done = run("migration", "report", "payments", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_tells_how_it_went_and_who_is_still_on_legacy(tmp_path: Path) -> None:
    """For machines: everything, by the log alone."""
    migrated(
        tmp_path,
        *sent("erp", "legacy", 8, days=50),
        *sent("erp", "modern", 9, days=1),
        *sent("erp", "modern", 1, days=1, status=503),
        *sent("crm", "legacy", 3, days=2),
        changed(10, before=0, reason="begin"),
        changed(50, before=10, reason="goes well"),
        changed(10, before=50, reason="3 of 9 failed", who="guard", what="rollback"),
    )

    found = report(tmp_path)

    assert [(one["what"], one["old_weight"], one["weight"], one["who"], one["reason"]) for one in found["changes"]] == [
        ("set", "0", "10", "anna", "begin"),
        ("set", "10", "50", "anna", "goes well"),
        ("rollback", "50", "10", "guard", "3 of 9 failed"),
    ]
    assert (found["modern"]["requests"], found["modern"]["failure_ratio"]) == (10, 0.1)
    assert found["legacy"]["requests"] == 3
    assert found["still_on_legacy"] == ["crm"]
    assert found["not_on_modern"] == ["crm"]
    assert found["not_seen"] == ["shop"]
    assert not found["no_longer_used"]


def test_people_read_the_verdict_first(tmp_path: Path) -> None:
    """Then who did what, both sides, each caller, and how far the log reaches back."""
    migrated(
        tmp_path,
        *sent("erp", "legacy", 8, days=50),
        *sent("erp", "modern", 9, days=1),
        changed(100, before=10, reason="all of it"),
    )

    done = run("migration", "report", "payments", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("payments: legacy is no longer used: nobody has for 35 days")
    assert any(line.endswith("set 10 to 100, by anna: all of it") for line in lines)
    assert "  modern  9 requests, 0 failed (0.00%), 0 client errors (0.00%)" in lines
    assert any(line.startswith("  erp: legacy 0, last ") and "; modern 9, last " in line for line in lines)
    assert "configured, and not seen for 400 days: crm, shop" in lines
    assert lines[-1].startswith("the log begins on ")


def test_before_the_first_record_nothing_is_known(tmp_path: Path) -> None:
    """And that is said."""
    migrated(tmp_path)
    found = report(tmp_path)
    assert not found["no_longer_used"]
    assert found["log_begins"] == ""
    assert found["changes"] == []


def test_without_a_database_there_is_no_report(tmp_path: Path) -> None:
    """It is all by the log."""
    migrated(tmp_path, log='database = ""')
    done = run("migration", "report", "payments", cwd=tmp_path)
    assert done.returncode == 1
    assert "request_log.database is turned off" in done.stderr
