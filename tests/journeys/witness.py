"""`python -m tests.journeys.witness JOURNAL`: the simulator as a process, with a file of all that it has received."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import Bank, serve


def seen(journal: Path) -> Counter[str]:
    """Return by Idempotency-Key how often the simulator received a POST."""
    count: Counter[str] = Counter()
    for line in journal.read_text().splitlines():
        received = json.loads(line)
        if received["method"] == "POST":
            count.update(value for name, value in received["headers"] if name.lower() == "idempotency-key")
    return count


def _started(bank: Bank) -> None:
    sys.stdout.write(bank.url + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    journal = Path(sys.argv[1])
    asyncio.run(serve("127.0.0.1", 0, clock=SystemClock(), entropy=SystemEntropy(), started=_started, journal=journal))
