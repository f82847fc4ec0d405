"""The case "workers" of the benchmark: what its table and its goals say of what was measured."""

from bench.candidates import FOUR
from bench.cases.workers import _CASES, _QUARTER, _Measured, _report


def measured(**by_name: tuple[float, float, float]) -> _Measured:
    """Return a round in which one worker, one with a quarter of the callers, and four cost so many microseconds."""
    found = _Measured()
    for name, costs in by_name.items():
        for variant, cost in zip(("", _QUARTER, FOUR), costs, strict=True):
            found.cost[name + variant] = [cost]
        found.shares[name + FOUR] = [0.25]
    return found


def test_what_four_workers_cost_stands_beside_that_of_the_peers() -> None:
    """A ratio on one core says little by itself: the row of the goal has the ratios of the same run."""
    report = _report(_CASES[0], measured(payproxy=(30, 27, 39), nginx=(16, 16, 18), Envoy=(40, 44, 50)))

    assert "of four workers by that of one (nginx 1.12, Envoy 1.25)" in report.goals[0].name
    assert report.goals[0].value == 1.3
    assert any(line.startswith("| payproxy | 30.0 | 0.90 | 39.0 |") for line in report.lines)


def test_a_machine_without_envoy_has_the_ratio_of_nginx() -> None:
    """Then there is no goal beside Envoy either."""
    report = _report(_CASES[0], measured(payproxy=(30, 27, 39), nginx=(16, 16, 18)))

    assert "(nginx 1.12)" in report.goals[0].name
    assert not any("Envoy" in goal.name for goal in report.goals)
