"""Which callers move when a weight changes, by the same decision as in the data path. No I/O."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.migration.side import Policy, Side, choose_side
from proxy.routing.compile import policy_of
from proxy.settings.worker_values import MigrationValues


@dataclass(frozen=True, slots=True)
class Moves:
    """The effect of a change: *to_modern* and *to_legacy* are callers, *before* and *after* shares of requests, 0 to 1.

    *spread* names what is divided other than by caller, "" for nothing: it moves with every change of the weight.
    """

    to_modern: tuple[str, ...]
    to_legacy: tuple[str, ...]
    before: float
    after: float
    spread: str

    @property
    def nobody(self) -> bool:
        """Return whether the change has no effect."""
        return not (self.to_modern or self.to_legacy or (self.spread and self.before != self.after))

    def as_dict(self) -> dict[str, Any]:
        """Return the effect as JSON values."""
        return {
            "to_modern": list(self.to_modern),
            "to_legacy": list(self.to_legacy),
            "modern_share_before": round(self.before, 4),
            "modern_share_after": round(self.after, 4),
            "spread": self.spread,
        }


def moves(
    values: MigrationValues,
    *,
    old: int,
    new: int,
    held: Collection[str],
    released: Collection[str],
    requests: Mapping[str, int],
    callers: Iterable[str],
) -> Moves:
    """Return the effect of changing the weight from *old* to *new*; *held* callers stay unless they are *released*.

    *requests* are counts by caller, from the log; *callers* may have sent none yet.
    """
    policy = policy_of(values)
    divided = bool(policy.sticky_header) or (policy.sticky == "request" and bool(policy.methods))
    to_modern: list[str] = []
    to_legacy: list[str] = []
    before = after = 0.0
    known = sorted({*callers, *requests})
    total = sum(requests.values())
    for caller in known:
        # Without any request all callers have equal parts.
        part = requests.get(caller, 0) / total if total else 1 / len(known)
        was, is_ = (
            _modern_share(policy, caller, weight=weight, held=caller in kept, divided=divided)
            for weight, kept in ((old, held), (new, set(held) - set(released)))
        )
        before += part * was
        after += part * is_
        if was != is_ and not 0 < max(was, is_) - min(was, is_) < 1:
            (to_modern if is_ > was else to_legacy).append(caller)
    spread = f"values of {policy.sticky_header}" if policy.sticky_header else f"{', '.join(values.methods)} requests"
    return Moves(tuple(to_modern), tuple(to_legacy), before=before, after=after, spread=spread if divided else "")


def _modern_share(policy: Policy, caller: str, *, weight: int, held: bool, divided: bool) -> float:
    """Return the share of the requests of *caller* on modern, as far as it can be predicted."""
    if divided and not held and caller not in policy.pinned:
        return weight / 100
    return 1.0 if side_at(policy, caller, weight=weight, held=held) is Side.MODERN else 0.0


def side_at(policy: Policy, caller: str, *, weight: int, held: bool) -> Side:
    """Return the side of a request of *caller* if nothing else is known about it."""
    return choose_side(
        policy, weight=weight, caller=caller, method="", header=None, request_id="", guard_pinned=held, retry=None
    ).side
