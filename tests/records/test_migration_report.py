"""What a report says of tallies and operations."""

from typing import Any

import pytest

from proxy.records.migration_report import Change, Report, SideTotals, report_of
from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS
from proxy.records.tally import DAY_SECONDS, Tally
from proxy.settings.worker_values import MigrationValues, SideValues

NOW = 1_800_000_000.0
DAY = float(DAY_SECONDS)
VALUES = MigrationValues(
    name="payments",
    routes=("payments",),
    legacy=SideValues(credential="adfs", audience="a", scope="", upstream=""),
    modern=SideValues(credential="login", audience="b", scope="", upstream=""),
    sticky="caller",
    methods=(),
    pinned_legacy=(),
    pinned_modern=(),
    fallback=True,
)


def tally(caller: str, side: str, *, days: float, **values: Any) -> Tally:
    """Return that *caller* sent 10 requests on *side*, the last one *days* ago."""
    filled = {
        "route": "payments",
        "credential": "",
        "requests": 10,
        "held_back": 0,
        "failed": 0,
        "client_errors": 0,
        "fine": 10,
    }
    return Tally(**{**filled, "side": side, "caller": caller, "last": NOW - days * DAY, **values})


def report(*tallies: Tally, oldest: float | None = NOW - 500 * DAY, **changes: Any) -> Report:
    """Return a report on *tallies*, as the database counts them for both spans."""
    spans = {
        name: [one for one in tallies if one.last >= NOW - days * DAY]
        for name, days in (("lately", LEGACY_DAYS), ("long", SEEN_DAYS))
    }
    return report_of(VALUES, **{**spans, "operations": [], "callers": [], "oldest": oldest, "now": NOW, **changes})


def test_legacy_is_no_longer_used_after_35_days_when_everyone_has_been_on_modern() -> None:
    """A month's end has passed, and nobody is missing."""
    made = report(tally("erp", "legacy", days=36), tally("erp", "modern", days=1), tally("crm", "modern", days=300))

    assert made.no_longer_used
    assert made.verdict.startswith("legacy is no longer used")
    assert (made.still_on_legacy, made.not_on_modern) == ((), ())


@pytest.mark.parametrize("caller", ["erp", "crm"])
def test_one_legacy_request_in_35_days_is_use(caller: str) -> None:
    """Whoever sent it."""
    made = report(tally("erp", "modern", days=1), tally("crm", "modern", days=1), tally(caller, "legacy", days=34.9))

    assert not made.no_longer_used
    assert made.still_on_legacy == (caller,)
    assert made.verdict == f"legacy is used: by {caller} in the last 35 days"


def test_a_caller_that_was_never_on_modern_is_named() -> None:
    """It calls once a year, and nobody knows whether it can."""
    made = report(tally("erp", "modern", days=1), tally("audit", "legacy", days=390))

    assert not made.no_longer_used
    assert made.not_on_modern == ("audit",)
    assert "audit called in the last 400 days and has not been on modern" in made.verdict


def test_who_has_not_called_for_400_days_is_named_and_does_not_hinder() -> None:
    """Only the file knows it."""
    made = report(tally("erp", "modern", days=1), tally("old", "legacy", days=401), callers=["erp", "old", "never"])

    assert made.no_longer_used
    assert made.not_seen == ("never", "old")


@pytest.mark.parametrize("oldest", [None, NOW, NOW - 34 * DAY])
def test_a_log_that_does_not_reach_back_proves_nothing(oldest: float | None) -> None:
    """It was pruned, or has just begun."""
    made = report(tally("erp", "modern", days=1), oldest=oldest)

    assert not made.no_longer_used
    assert "does not reach back" in made.verdict


def test_a_log_without_callers_proves_nothing() -> None:
    """Nobody called."""
    assert not report().no_longer_used


def test_requests_from_before_there_were_sides_count_by_their_credential() -> None:
    """Those of another credential on neither; a rule that is not the migration's is none of its business."""
    made = report(
        tally("erp", "", credential="adfs", days=3),
        tally("crm", "", credential="login", days=2),
        tally("x", "", credential="other", days=2),
        tally("y", "legacy", route="reports", days=2),
    )

    assert made.still_on_legacy == ("erp",)
    assert [one.caller for one in made.callers] == ["crm", "erp"]


def test_ratios_are_of_what_the_proxy_let_through() -> None:
    """By side, over the last 35 days, of all callers."""
    made = report(
        tally("erp", "modern", days=1, requests=30, held_back=10, failed=3, client_errors=1),
        tally("crm", "modern", days=1, requests=20),
        tally("erp", "legacy", days=50, failed=10),
    )

    assert made.modern == SideTotals(
        requests=50, exchanges=40, failed=3, client_errors=1, failure_ratio=0.075, client_error_ratio=0.025
    )
    assert made.legacy.requests == 0
    assert made.legacy.failure_ratio == 0


def test_changes_are_told_in_order_with_who_and_why() -> None:
    """Of this migration only, the newest record coming first."""

    def operation(time: str, what: str, **values: str) -> dict[str, Any]:
        return {"time": time, "who": "anna", "proof": "unix socket", "what": what, "reason": "week", "values": values}

    made = report(
        operations=[
            operation("2027-01-02", "migration rollback", migration="payments", old_weight="50", weight="10"),
            operation("2027-01-01", "migration set", migration="payments", old_weight="10", weight="50"),
            operation("2027-01-01", "migration set", migration="reports", old_weight="0", weight="50"),
            operation("2027-01-01", "POST /api/tokens/retry", credential="adfs"),
            {"what": "prune"},
        ]
    )

    assert made.changes == (
        Change(
            time="2027-01-01",
            who="anna",
            proof="unix socket",
            what="set",
            reason="week",
            old_weight="10",
            weight="50",
        ),
        Change(
            time="2027-01-02",
            who="anna",
            proof="unix socket",
            what="rollback",
            reason="week",
            old_weight="50",
            weight="10",
        ),
    )
