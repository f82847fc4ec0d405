import asyncio
from typing import Any

import pytest

from proxy.simulator.faults import FaultKind, Faults
from proxy.simulator.scenario import NAMED, StepInvalid, named_faults, play, step_of
from tests.support.clock import ManualClock


def table(**values: Any) -> dict[str, Any]:
    """Return a step's table with *values*; `for_` stands for `for`."""
    return {"at": 1} | {name.rstrip("_"): value for name, value in values.items()}


@pytest.mark.parametrize("name", [*NAMED, *FaultKind])
def test_every_named_fault_and_every_kind_is_a_step(name: str) -> None:
    """With nothing else to say; some kinds need more to do harm."""
    step = step_of(table(fault=str(name)))

    assert step.at == 1
    assert str(step)


def test_a_name_has_defaults_that_can_be_changed() -> None:
    """Timeout is an answer that is later than anybody waits."""
    assert [(one.kind, one.path, one.seconds) for one in named_faults("slow")] == [(FaultKind.SLOW, "/payment", 5.0)]
    (changed,) = named_faults("slow", path="/tsapi", seconds=9, times=2)
    assert (changed.path, changed.seconds, changed.times) == ("/tsapi", 9, 2)
    (night,) = named_faults("night")
    assert (night.status, night.headers["Retry-After"], night.path) == (503, "5", "/")


@pytest.mark.parametrize(
    ("values", "member"),
    [
        ({"fault": "slwo"}, "fault"),
        ({}, ""),
        ({"fault": "slow", "at": "now"}, "at"),
        ({"fault": "slow", "at": -1}, "at"),
        ({"fault": "slow", "at": True}, "at"),
        ({"fault": "slow", "at": float("nan")}, "at"),
        ({"fault": "slow", "for_": "long"}, "for"),
        ({"fault": "slow", "until": 3}, "until"),
        ({"fault": "slow", "times": "two"}, "times"),
        ({"fault": ["slow"]}, "fault"),
        ({"fault": {"name": "slow"}}, "fault"),
        ({"fault": 3}, "fault"),
        ({"fault": "slow", "times": 0}, "times"),
        ({"fault": "slow", "times": True}, "times"),
        ({"fault": "slow", "seconds": -5}, "seconds"),
        ({"fault": "slow", "seconds": float("nan")}, "seconds"),
        ({"fault": "slow", "seconds": float("inf")}, "seconds"),
        ({"fault": "status", "status": 99}, "status"),
        ({"fault": "status", "status": True}, "status"),
        ({"fault": "revoked", "path": "/payment"}, "path"),
        ({"fault": "off", "for_": 3}, "for"),
    ],
)
def test_a_wrong_step_says_which_key(values: dict[str, Any], member: str) -> None:
    """And how to write it."""
    with pytest.raises(StepInvalid) as raised:
        step_of(table(**values))

    assert raised.value.member == member
    assert raised.value.fix


def test_a_step_needs_its_time() -> None:
    """At the step, since the key is not there."""
    with pytest.raises(StepInvalid, match="missing") as raised:
        step_of({"fault": "slow"})

    assert raised.value.member == ""


async def test_steps_come_at_their_time_and_go() -> None:
    """Each fault is set, and taken away alone when its time is over; off takes all."""
    clock, faults = ManualClock(), Faults()
    told: list[str] = []
    revoked: list[int] = []
    steps = [
        step_of({"at": 5, "fault": "slow", "for": 10}),
        step_of({"at": 0, "fault": "reset"}),
        step_of({"at": 10, "fault": "revoked"}),
        step_of({"at": 70, "fault": "off"}),
    ]

    def kinds() -> list[str]:
        return [str(one["kind"]) for one in faults.as_list()]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(play(steps, faults, revoke=lambda: revoked.append(1), clock=clock, tell=told.append))
        await clock.advance(0)
        assert kinds() == ["reset"]
        await clock.advance(5)
        assert kinds() == ["reset", "slow"]
        assert not revoked
        await clock.advance(9)
        assert revoked == [1]
        assert kinds() == ["reset", "slow"]
        await clock.advance(1)
        assert kinds() == ["reset"]
        await clock.advance(55)
        assert kinds() == []

    assert told == [
        "0:00  reset on /payment",
        "0:05  slow on /payment, for 10 s",
        "0:10  all tokens are revoked",
        "0:15  slow is over",
        "1:10  all faults are taken away",
    ]
