from typing import Any

import pytest

from proxy.migration.outcome import ExchangeOutcome, outcome_of
from proxy.migration.side import Side

GOOD: list[Any] = ["payments", "modern", "erp", True, "ok", 200, False, 12.5, "payment-status"]


def test_a_row_is_understood() -> None:
    """As a worker sends it."""
    row = outcome_of(GOOD)

    assert row == ExchangeOutcome(
        migration="payments",
        side=Side.MODERN,
        caller="erp",
        safe=True,
        outcome="ok",
        status=200,
        refused=False,
        finished=12.5,
        route="payment-status",
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 1),
        (0, "x" * 300),
        (1, "other"),
        (2, None),
        (3, 1),
        (4, "fine"),
        (5, "200"),
        (5, 1000),
        (5, True),
        (6, None),
        (7, float("nan")),
        (7, -1),
        (8, None),
    ],
    ids=str,
)
def test_what_is_no_row_is_refused(place: int, value: Any) -> None:
    """A worker parses strangers' bytes: nothing it sends is believed by its shape alone."""
    with pytest.raises((ValueError, TypeError)):
        outcome_of([*GOOD[:place], value, *GOOD[place + 1 :]])


@pytest.mark.parametrize("row", [None, {}, "x", 1, [], GOOD[:-1], [*GOOD, 1]], ids=repr)
def test_what_has_another_length_is_refused(row: Any) -> None:
    """Nor by its length."""
    with pytest.raises((ValueError, TypeError)):
        outcome_of(row)
