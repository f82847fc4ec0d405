"""Compares the modern side with legacy by the last exchanges, and decides when to roll back; pure, `now` is given.

Nothing here ever moves a caller to modern. Seconds are monotonic.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.side import Side

WINDOW = 50
LEAST_FAILURES = 3
MINT_SECONDS = 60.0
REFUSAL_SECONDS = 300.0
# With a single caller one 401 may be a revoked token; a second one shows that new tokens are refused too.
LEAST_REFUSALS = 2
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Shares of exchanges, 0 to 1, above which the modern side counts as failing."""

    failures: float
    client_errors: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One caller's legacy exchanges in the log; *fine_on* are the rules on which it had a 2xx."""

    exchanges: int = 0
    failed: int = 0
    client_errors: int = 0
    fine_on: frozenset[str] = frozenset()

    def share(self, number: int) -> float:
        """Return *number* as a share of the exchanges, 0 if there are none."""
        return number / self.exchanges if self.exchanges else 0.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """The modern side fails: lower the weight."""

    reason: str


@dataclass(frozen=True, slots=True)
class HoldCaller:
    """The modern side fails for one caller only."""

    caller: str
    reason: str


Decision = Rollback | HoldCaller
Pasts = Mapping[str, Past]
_UNKNOWN = Past()


class Guard:
    """Watches one migration. Evidence from before the last change of its state does not count."""

    def __init__(self, limits: Limits, *, now: float) -> None:
        self.limits = limits
        self._since = now
        self._last: deque[ExchangeOutcome] = deque(maxlen=WINDOW)
        self._of_caller: dict[str, deque[ExchangeOutcome]] = {}
        self._failures: Counter[str] = Counter()
        self._refusals: dict[str, deque[float]] = {}
        self._mint = _Mint()

    def begin(self, *, now: float, weight_changed: bool) -> None:
        """Discard the exchanges. A failing mint is kept as evidence unless the weight has changed."""
        self._since = now
        self._last.clear()
        self._of_caller.clear()
        self._failures.clear()
        self._refusals.clear()
        if weight_changed:
            self._mint = _Mint(failing=self._mint.failing, code=self._mint.code)

    def see(self, row: ExchangeOutcome) -> bool:
        """Add an exchange's outcome; return whether it may be a reason to act."""
        if row.side is not Side.MODERN or row.outcome == "none" or row.finished <= self._since:
            return False
        self._last.append(row)
        own = self._of_caller.get(row.caller)
        if own is None:
            own = self._of_caller[row.caller] = deque(maxlen=WINDOW)
        if len(own) == WINDOW and _is_doubtful(own[0]):
            self._failures[row.caller] -= 1
        own.append(row)
        if not _is_doubtful(row):
            return False
        self._failures[row.caller] += 1
        if row.refused:
            self._refusals.setdefault(row.caller, deque(maxlen=LEAST_REFUSALS)).append(row.finished)
        return True

    def see_mints(self, *, modern_failing: str, legacy_works: bool, now: float) -> None:
        """Update the mint status; *modern_failing* is the error code of the last modern mint, "" if it worked."""
        since = (self._mint.since if self._mint.since is not None else now) if modern_failing and legacy_works else None
        self._mint = _Mint(failing=bool(modern_failing), code=modern_failing, since=since)

    def decide(self, *, weight: int, callers: frozenset[str], pasts: Pasts, now: float) -> Decision | None:
        """Return the action needed, with the numbers, or None.

        *callers* are all that may go to modern: neither held nor pinned to legacy. Other callers' exchanges do not
        count. *pasts* are the callers' results on legacy.
        """
        if weight <= 0:
            return None
        return self._by_mint(now) or self._by_refusals(callers, now) or self._by_ratio(callers, pasts)

    def _by_mint(self, now: float) -> Decision | None:
        since = self._mint.since
        if since is None or now - since < MINT_SECONDS:
            return None
        return Rollback(
            f"no modern token could be had for {now - since:.0f} s ({self._mint.code}), while legacy ones can"
        )

    def _by_refusals(self, callers: frozenset[str], now: float) -> Decision | None:
        recent = {
            caller: sum(at > now - REFUSAL_SECONDS for at in times)
            for caller, times in self._refusals.items()
            if caller in callers
        }
        refused = sorted(caller for caller, times in recent.items() if times)
        minutes = f"within {REFUSAL_SECONDS / 60:.0f} minutes"
        if len(refused) > 1:
            return Rollback(f"the modern token was refused to {len(refused)} callers {minutes}: {_names(refused)}")
        if refused and callers == set(refused) and recent[refused[0]] >= LEAST_REFUSALS:
            return Rollback(f"the modern token was refused to {_names(refused)} {minutes}, the only caller there is")
        return None

    def _by_ratio(self, callers: frozenset[str], pasts: Pasts) -> Decision | None:
        measures = (
            _Measure(
                what="failed",
                allowed=self.limits.failures,
                counts=lambda row: row.refused or row.outcome in {"failed", "refused"},
                before=lambda past: past.share(past.failed),
                # Without a token all callers fail alike, whichever comes first.
                shared=self._mint.failing,
            ),
            _Measure(
                what="ended with a client error",
                allowed=self.limits.client_errors,
                counts=lambda row: (
                    row.outcome == "client_error" or (row.outcome == "forbidden" and _had_been_fine(row, pasts))
                ),
                before=lambda past: past.share(past.client_errors),
            ),
        )
        rows = [row for row in self._last if row.caller in callers]
        for measure in measures:
            decision = measure.decide(rows, callers=callers, pasts=pasts)
            if decision is not None:
                return decision
        # One of many callers may not fail three times within the last 50 exchanges of all, so check each caller.
        suspects = [caller for caller, failures in self._failures.items() if failures >= LEAST_FAILURES]
        for caller in sorted(callers.intersection(suspects)):
            for measure in measures:
                decision = measure.decide(self._of_caller[caller], callers=callers, pasts=pasts)
                if decision is not None:
                    return decision
        return None

    def __repr__(self) -> str:
        return f"<Guard {len(self._last)} modern exchanges, {self._failures.total()} of all callers' failed>"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mint:
    """*since*: when modern started to fail while legacy worked, None if that is not so."""

    failing: bool = False
    code: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """A kind of failure: which exchanges count, how many are allowed, and a caller's share *before*, on legacy."""

    what: str
    allowed: float
    counts: Callable[[ExchangeOutcome], bool]
    before: Callable[[Past], float]
    shared: bool = field(default=False)

    def decide(self, rows: Iterable[ExchangeOutcome], *, callers: frozenset[str], pasts: Pasts) -> Decision | None:
        """Return the action for *rows*: hold a caller that fails alone, else roll back."""
        rows = list(rows)
        failures = Counter(row.caller for row in rows if self.counts(row))
        if failures.total() < LEAST_FAILURES or not self._too_many(rows, pasts):
            return None
        worst, number = max(failures.items(), key=lambda item: (item[1], item[0]))
        others = [row for row in rows if row.caller != worst]
        alone = number >= LEAST_FAILURES and not self._too_many(others, pasts)
        numbers = self._numbers(rows, pasts)
        if alone and not self.shared and callers != {worst}:
            return HoldCaller(worst, f"{numbers}, {number} of them by {_names([worst])}, the others' did not")
        by = ", ".join(f"{_names([caller])} {times}" for caller, times in failures.most_common(_MOST_NAMES))
        return Rollback(f"{numbers}: {by}{', …' if len(failures) > _MOST_NAMES else ''}")

    def _too_many(self, rows: list[ExchangeOutcome], pasts: Pasts) -> bool:
        failed = sum(self.counts(row) for row in rows)
        return failed > self.allowed * len(rows) and failed > self._expected(rows, pasts)

    def _expected(self, rows: list[ExchangeOutcome], pasts: Pasts) -> float:
        """Return how many of *rows* would have failed on legacy.

        Each exchange counts by its own caller: a large caller that fails often must not hide a small one.
        """
        times = Counter(row.caller for row in rows)
        return sum(number * self.before(pasts.get(caller, _UNKNOWN)) for caller, number in times.items())

    def _numbers(self, rows: list[ExchangeOutcome], pasts: Pasts) -> str:
        failed, number = sum(self.counts(row) for row in rows), len(rows)
        return (
            f"{failed} of the last {number} modern exchanges {self.what} ({failed / number:.1%}, allowed are "
            f"{self.allowed:.1%}, on legacy these callers had {self._expected(rows, pasts) / number:.1%})"
        )


def _is_doubtful(row: ExchangeOutcome) -> bool:
    # A refused token counts even if a newer token was then accepted.
    return row.refused or row.outcome != "ok"


def _had_been_fine(row: ExchangeOutcome, pasts: Pasts) -> bool:
    fine_on = pasts.get(row.caller, _UNKNOWN).fine_on
    return row.route in fine_on if row.route else bool(fine_on)


def _names(callers: list[str]) -> str:
    shown = ", ".join(caller or "the anonymous caller" for caller in callers[:_MOST_NAMES])
    return shown if len(callers) <= _MOST_NAMES else f"{shown}, …"
