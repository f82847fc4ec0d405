"""The guard's decisions, under a clock of the tests."""

from collections.abc import Iterable

import pytest

from proxy.migration.guard import Decision, Guard, HoldCaller, Limits, Past, Rollback
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.side import Side

LIMITS = Limits(failures=0.05, client_errors=0.05)
TWENTY = frozenset(f"caller{number}" for number in range(20))
EVERYONE = TWENTY | {"erp", "crm"}
NOW = 1000.0


def row(
    caller: str = "erp", outcome: str = "ok", *, at: float = NOW + 1, side: Side = Side.MODERN, route: str = "payments"
) -> ExchangeOutcome:
    """Return what came of a send."""
    return ExchangeOutcome("payments", side, caller, True, outcome, 200, outcome == "refused", at, route)  # noqa: FBT003 - a row has no names


def guard(*rows: ExchangeOutcome, limits: Limits = LIMITS) -> Guard:
    """Return a guard since NOW that has seen *rows*."""
    made = Guard(limits, now=NOW)
    for one in rows:
        made.see(one)
    return made


def decided(
    made: Guard,
    *,
    weight: int = 50,
    callers: Iterable[str] = EVERYONE,
    pasts: dict[str, Past] | None = None,
    now: float = NOW + 2,
) -> Decision | None:
    """Return what *made* decides."""
    return made.decide(weight=weight, callers=frozenset(callers), pasts=pasts or {}, now=now)


def reason(decision: Decision | None) -> str:
    """Return why."""
    assert decision is not None
    return decision.reason


def mixed(failing: dict[str, str], *, rounds: int = 5, callers: Iterable[str] = TWENTY) -> list[ExchangeOutcome]:
    """Return exchanges of *callers* in turn, of which those *failing* always end as told."""
    return [row(caller, failing.get(caller, "ok")) for _ in range(rounds) for caller in sorted(callers)]


class TestMints:
    """While no modern token can be had."""

    def test_a_minute_without_a_modern_token_is_enough(self) -> None:
        """And nothing less; no exchange need have failed."""
        made = guard()
        for second in range(60):
            made.see_mints(modern_failing="token_unavailable", legacy_works=True, now=NOW + second)
            assert decided(made, now=NOW + second) is None
        made.see_mints(modern_failing="token_unavailable", legacy_works=True, now=NOW + 60)

        assert decided(made, now=NOW + 60) == Rollback(
            "no modern token could be had for 60 s (token_unavailable), while legacy ones can"
        )

    def test_a_token_in_between_starts_the_minute_anew(self) -> None:
        """Or a legacy mint that fails too: then it is the network."""
        for modern, legacy in (("", True), ("token_unavailable", False)):
            made = guard()
            made.see_mints(modern_failing="token_unavailable", legacy_works=True, now=NOW)
            made.see_mints(modern_failing=modern, legacy_works=legacy, now=NOW + 30)
            made.see_mints(modern_failing="token_unavailable", legacy_works=True, now=NOW + 31)
            assert decided(made, now=NOW + 90) is None
            assert isinstance(decided(made, now=NOW + 91), Rollback)

    def test_after_a_rollback_the_minute_starts_anew(self) -> None:
        """A lower weight gets its own minute; that a caller was held is another matter."""
        for changed, due in ((True, NOW + 110), (False, NOW + 60)):
            made = guard()
            made.see_mints(modern_failing="token_refused", legacy_works=True, now=NOW)
            made.begin(now=NOW + 50, weight_changed=changed)
            made.see_mints(modern_failing="token_refused", legacy_works=True, now=NOW + 50)
            assert decided(made, now=due - 0.1) is None
            assert isinstance(decided(made, now=due), Rollback)

    def test_want_of_a_token_is_nobodys_own(self) -> None:
        """Whoever came first, everybody would have fared alike."""
        made = guard(*[row("caller1", "failed")] * 3, *[row("caller2")] * 20)
        assert isinstance(decided(made), HoldCaller)
        made.see_mints(modern_failing="token_unavailable", legacy_works=True, now=NOW)
        assert isinstance(decided(made), Rollback)


class TestRefusals:
    """401s of the modern token."""

    def test_two_callers_are_enough(self) -> None:
        """Once each, whatever else went well."""
        made = guard(*mixed({}), row("caller3", "refused"), *mixed({}), row("caller7", "refused"))

        assert decided(made) == Rollback("the modern token was refused to 2 callers within 5 minutes: caller3, caller7")

    def test_two_callers_more_than_five_minutes_apart_are_not(self) -> None:
        """Each is a token that was replaced."""
        made = guard(row("caller3", "refused", at=NOW + 1), row("caller7", "refused", at=NOW + 301))
        assert isinstance(decided(made, now=NOW + 300.9), Rollback)
        assert decided(made, now=NOW + 301) is None

    def test_one_of_many_callers_is_not(self) -> None:
        """Twice in a hundred exchanges."""
        assert decided(guard(*mixed({}), row("caller3", "refused"), row("caller3", "refused"))) is None

    def test_the_only_caller_there_is_is_enough(self) -> None:
        """Twice: once may be a token that was revoked, and the next one is taken."""
        made = guard(*[row("erp")] * 40, row("erp", "refused"))
        assert decided(made, callers={"erp"}) is None
        made.see(row("erp", "refused"))
        assert isinstance(decided(made, callers={"erp"}), Rollback)
        assert decided(made, callers={"erp", "crm"}) is None


class TestRatio:
    """Of the last 50."""

    @pytest.mark.parametrize("outcome", ["failed", "refused", "client_error"])
    def test_one_caller_of_twenty_that_always_fails_is_held(self, outcome: str) -> None:
        """And nothing is rolled back, the others being fine."""
        decision = decided(guard(*mixed({"caller3": outcome})))

        assert isinstance(decision, HoldCaller)
        assert decision.caller == "caller3"
        assert "3 of them by caller3" in decision.reason or "of the last 5 " in decision.reason

    @pytest.mark.parametrize("outcome", ["failed", "refused", "client_error"])
    def test_two_callers_of_twenty_that_always_fail_are_a_rollback(self, outcome: str) -> None:
        """As soon as it can be said."""
        made = guard()
        decisions = []
        for one in mixed({"caller3": outcome, "caller7": outcome}):
            made.see(one)
            decisions.append(decided(made))

        first = next(decision for decision in decisions if decision is not None)
        assert isinstance(first, Rollback)
        assert "caller3" in first.reason
        assert "caller7" in first.reason

    def test_one_of_very_many_callers_is_found(self) -> None:
        """Though it never comes up three times in 50 exchanges of all."""
        many = [f"c{number}" for number in range(200)]
        assert decided(guard(*mixed({"c5": "failed"}, callers=many, rounds=2)), callers=many) is None
        decision = decided(guard(*mixed({"c5": "failed"}, callers=many, rounds=3)), callers=many)
        assert isinstance(decision, HoldCaller)
        assert decision.caller == "c5"

    def test_another_callers_rare_failure_spares_it_no_rollback(self) -> None:
        """One that always fails is held, though someone else had a time-out as there are always some."""
        rows = [*mixed({}, rounds=2), *[row("caller3", "failed")] * 8, row("caller9", "failed")]
        decision = decided(guard(*rows))
        assert isinstance(decision, HoldCaller)
        assert decision.caller == "caller3"

    def test_the_only_caller_there_is_is_a_rollback(self) -> None:
        """To hold it would leave nobody, and whoever comes next to find out."""
        made = guard(*[row("erp", "failed")] * 3)
        assert isinstance(decided(made, callers={"erp"}), Rollback)
        assert isinstance(decided(made, callers={"erp", "crm"}), HoldCaller)

    def test_what_legacy_did_too_is_no_reason(self) -> None:
        """By the same callers' own shares, not those of others."""
        rows = [*[row("caller1", "failed")] * 3, *[row("caller1")] * 7]
        assert decided(guard(*rows), pasts={"caller1": Past(exchanges=1000, failed=300)}) is None
        assert decided(guard(*rows), pasts={"caller1": Past(exchanges=1000, failed=299)}) is not None
        assert decided(guard(*rows), pasts={"caller2": Past(exchanges=1000, failed=900)}) is not None
        assert decided(guard(*rows), pasts={"caller1": Past(exchanges=1000, client_errors=900)}) is not None

    def test_the_reason_has_the_numbers(self) -> None:
        """How many of how many, what is allowed, and what legacy had."""
        rows = [row("erp", "failed"), row("crm", "failed"), row("erp", "failed"), *[row("crm")] * 7]
        pasts = {"erp": Past(exchanges=1000, failed=10), "crm": Past(exchanges=10, failed=0)}

        assert decided(guard(*rows), callers={"erp", "crm"}, pasts=pasts) == Rollback(
            "3 of the last 10 modern exchanges failed (30.0%, allowed are 5.0%, on legacy these callers had 0.2%): "
            "erp 2, crm 1"
        )

    def test_only_the_last_50_count(self) -> None:
        """What has been put right since is no reason."""
        failed = [row("erp", "failed")] * 3
        assert decided(guard(*failed, *[row("erp")] * 47)) is not None
        assert decided(guard(*failed, *[row("erp")] * 48)) is None

    def test_a_share_of_one_turns_it_off(self) -> None:
        """More than all can't fail."""
        off = Limits(failures=1, client_errors=1)
        assert decided(guard(*[row("erp", "failed"), row("crm", "client_error")] * 9, limits=off)) is None


class TestForbidden:
    """403s."""

    ROWS = [row("erp", "forbidden"), row("crm", "forbidden")] * 3

    def test_it_counts_where_legacy_let_the_caller(self) -> None:
        """On this very rule."""
        fine = Past(exchanges=10, fine_on=frozenset({"payments"}))
        decision = decided(guard(*self.ROWS), pasts={"erp": fine, "crm": fine})
        assert isinstance(decision, Rollback)
        assert "ended with a client error" in decision.reason

    def test_it_does_not_count_where_legacy_did_not(self) -> None:
        """Or nobody knows, or another rule did."""
        other = Past(exchanges=10, fine_on=frozenset({"reports"}))
        assert decided(guard(*self.ROWS)) is None
        assert decided(guard(*self.ROWS), pasts={"erp": other, "crm": other}) is None

    def test_one_caller_alone_is_held(self) -> None:
        """Its new client is not allowed what the old one was."""
        fine = Past(exchanges=10, fine_on=frozenset({"payments"}))
        decision = decided(guard(*self.ROWS), pasts={"erp": fine})
        assert isinstance(decision, HoldCaller)
        assert decision.caller == "erp"
