"""Short deadlines for tests."""

from dataclasses import replace
from typing import Any

from proxy.worker.patience import PATIENCE, Patience

HASTE = 0.15  # seconds: short for a test, long for a loop that runs


def patience(**changes: Any) -> Patience:
    """Return the product's deadlines but *changes*."""
    return replace(PATIENCE, **changes)
