"""Former settings, by which an earlier attempt of a retried request may have been sent; pure.

A retry within PIN_SECONDS must go where its first attempt went. Without a pin, the first attempt went by the setting of
its time: a retry is sent without asking only if its side is the same under each of these settings.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.migration.pin import PIN_SECONDS
from proxy.migration.side import Policy, Side, choose_side

# In place of a weight: the table was a different one, under which any side is possible.
ANY_WEIGHT: Final = -1


@dataclass(frozen=True, slots=True)
class FormerSetting:
    """A *weight* (0 to 100) in force until *when*, in epoch seconds; or, with *caller*, that caller's hold.

    *settled*: every process has reported its keys in flight under this setting, so each of them has a pin.
    """

    weight: int
    caller: str
    when: float
    settled: bool

    def row(self) -> list[Any]:
        """Return the setting as a JSON row."""
        return [self.weight, self.caller, self.when, self.settled]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """What decides the side of a request with a retry key; *header* is the value of the policy's header.

    *silences* is that of the `SideCache` when the side was chosen.
    """

    digest: str
    caller: str
    method: str
    header: str | None
    silences: int = 0


def side_of(policy: Policy, keyed: Keyed, *, weight: int, guard_pinned: bool) -> Side:
    """Return the side of *keyed* without a pin."""
    return choose_side(
        policy,
        weight=weight,
        caller=keyed.caller,
        method=keyed.method,
        header=keyed.header,
        # Not the request's own id: a retry has another one, and must get the same side in every process.
        request_id=keyed.digest,
        guard_pinned=guard_pinned,
        retry=None,
    ).side


def may_differ(
    former: Iterable[FormerSetting], policy: Policy, keyed: Keyed, *, side: Side, guard_pinned: bool, now: float
) -> bool:
    """Return whether a first attempt of *keyed* in the last 24 h may have gone to another side than *side*."""
    for one in former:
        if one.when + PIN_SECONDS <= now:
            continue
        if one.caller:
            if one.caller == keyed.caller:
                return True
        elif one.weight == ANY_WEIGHT or side_of(policy, keyed, weight=one.weight, guard_pinned=guard_pinned) != side:
            return True
    return False


def left(before: Iterable[FormerSetting], new: Iterable[FormerSetting], *, now: float) -> tuple[FormerSetting, ...]:
    """Merge *before* and *new*, one per weight and caller, without settings that ended more than 24 h ago."""
    found: dict[tuple[int, str], FormerSetting] = {}
    for one in (*before, *new):
        if one.when + PIN_SECONDS <= now:
            continue
        known = found.get((one.weight, one.caller))
        if known is not None:
            one = replace(one, when=max(one.when, known.when), settled=one.settled and known.settled)  # noqa: PLW2901
        found[one.weight, one.caller] = one
    return tuple(found.values())


def former_of(rows: Iterable[Any]) -> tuple[FormerSetting, ...]:
    """Parse rows made by `FormerSetting.row`; raise ValueError or TypeError."""
    found = []
    for weight, caller, when, settled in rows:
        sound = (
            type(weight) is int
            and ANY_WEIGHT <= weight <= 100
            and isinstance(caller, str)
            and len(caller) <= 256
            and type(when) in (int, float)
            and 0 <= when < 1e12
            and type(settled) is bool
        )
        if not sound:
            raise ValueError("no setting")
        found.append(FormerSetting(weight, caller, float(when), settled))
    return tuple(found)
