"""Short deadlines for tests."""

from dataclasses import replace
from typing import Any

from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts

HASTE = 0.15  # seconds: short for a test, long for a loop that runs


def timeouts(**changes: Any) -> CallerTimeouts:
    """Return the product's deadlines but *changes*."""
    return replace(CALLER_TIMEOUTS, **changes)
