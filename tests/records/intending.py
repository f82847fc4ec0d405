"""A worker in a process of its own that writes intents until it is killed: `python -m tests.records.intending DIR`.

Each id goes to standard output once its `intend` has returned; a reader of that pipe is the witness.
"""

import asyncio
import os
import sys
from pathlib import Path

from tests.records.support import an_exchange, intend, make_journal


async def main(directory: Path, worker: str) -> None:
    """Write intents from eight tasks without end."""
    journal = make_journal(directory, worker=worker)
    await journal.open()

    async def send() -> None:
        while True:
            exchange = an_exchange()
            await intend(journal, exchange)
            os.write(1, f"{exchange.id}\n".encode())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(send())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
