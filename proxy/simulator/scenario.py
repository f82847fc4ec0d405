"""The bank's bad day: faults with a name of their own, and steps that set them one after the other."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.clock import Clock
from proxy.simulator.faults import MOST_SECONDS, Fault, FaultKind, Faults

REVOKED: Final = "revoked"
OFF: Final = "off"
# Longer than `response_timeout` may be.
_NEVER_SECONDS: Final = 3600.0
# Faults by name; the first argument of `payproxy trigger`, and `fault` in a scenario.
NAMED: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "timeout": ({"kind": "slow", "path": "/payment", "seconds": _NEVER_SECONDS},),
    "reset": ({"kind": "reset", "path": "/payment"},),
    REVOKED: (),
    "slow": ({"kind": "slow", "path": "/payment", "seconds": 5.0},),
    "night": ({"kind": "status", "path": "/", "status": 503, "headers": {"Retry-After": "5"}},),
    OFF: (),
}
_FIELDS = frozenset(field.name for field in dataclasses.fields(Fault)) - {"kind"}
MEMBERS: Final = frozenset({"at", "for", "fault"}) | _FIELDS


class StepInvalid(Exception):
    """A step can't be played: *member* (a key of it, "" for the step) is wrong; *fix* says what to do."""

    def __init__(self, member: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.member = member
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happens *at* seconds after the start: faults are set, tokens revoked, or all faults taken away.

    Its faults are taken away after *lasts* seconds, None: never.
    """

    at: float
    name: str
    faults: tuple[Fault, ...] = ()
    lasts: float | None = None

    def __str__(self) -> str:
        if self.name == OFF:
            return "all faults are taken away"
        if self.name == REVOKED:
            return "all tokens are revoked"
        path = self.faults[0].path or "every path"
        times = self.faults[0].times
        often = f", {times} times" if times is not None else ""
        return f"{self.name} on {path}{often}{f', for {self.lasts:g} s' if self.lasts is not None else ''}"


def named_faults(name: str, **changes: Any) -> tuple[Fault, ...]:
    """Return the faults of *name*, one of NAMED or a `FaultKind`, with *changes*; raises ValueError or TypeError."""
    return tuple(Fault.of({**values, **changes}) for values in NAMED.get(name, ({"kind": name},)))


def step_of(values: Mapping[str, Any]) -> Step:
    """Return the step that *values*, a table of a scenario, describes; raises StepInvalid."""
    for member in values:
        if member not in MEMBERS:
            raise StepInvalid(member, "a step has no such key", f"known are {', '.join(sorted(MEMBERS))}")
    name = values.get("fault", "")
    known = {*NAMED, *map(str, FaultKind)}
    if not isinstance(name, str) or name not in known:
        raise StepInvalid("fault" if name else "", "there is no such fault", f"known are {', '.join(sorted(known))}")
    at, lasts = _seconds(values, "at"), _seconds(values, "for") if "for" in values else None
    changes = {member: value for member, value in values.items() if member in _FIELDS}
    if name in (REVOKED, OFF) and (changes or lasts is not None):
        first = next(iter(changes), "for")
        raise StepInvalid(first, f"{name} concerns everything at once", f"remove {first}")
    try:
        return Step(at=at, name=name, faults=named_faults(name, **changes), lasts=lasts)
    except (ValueError, TypeError) as error:
        member = next((one for one in changes if one in str(error)), "fault")
        raise StepInvalid(member, str(error), "see the table of faults in docs/simulator.md") from None


async def play(
    steps: Sequence[Step], faults: Faults, *, revoke: Callable[[], object], clock: Clock, tell: Callable[[str], None]
) -> None:
    """Set and take away the faults of *steps* in *faults*, each at its time; *tell* gets a line for each.

    Of two at the same time the first in *steps* is the first.
    """
    started = clock.monotonic()
    moments = [(step.at, place, step, True) for place, step in enumerate(steps)]
    ends = [(step.at + step.lasts, place, step) for place, step in enumerate(steps) if step.lasts is not None]
    moments += [(*end, False) for end in ends]
    for at, _, step, begins in sorted(moments, key=lambda moment: moment[:2]):
        await clock.sleep(max(0.0, started + at - clock.monotonic()))
        if begins:
            _begin(step, faults, revoke)
        else:
            faults.remove(step.faults)
        tell(f"{int(at) // 60}:{int(at) % 60:02d}  {step if begins else f'{step.name} is over'}")


def _begin(step: Step, faults: Faults, revoke: Callable[[], object]) -> None:
    if step.name == OFF:
        faults.clear()
    elif step.name == REVOKED:
        revoke()
    for fault in step.faults:
        faults.add(fault)


def _seconds(values: Mapping[str, Any], member: str) -> float:
    found = values.get(member)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= MOST_SECONDS:
        what = "it is missing" if found is None else "it is not a number of seconds"
        raise StepInvalid(member if found is not None else "", f"{member}: {what}", f"write it like {member} = 10")
    return float(found)
