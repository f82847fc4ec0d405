"""Runs `payproxy` and ends it right before the n-th change of a file, as a crash or Ctrl-C at that moment would."""

import asyncio
import sys
from pathlib import Path

from tests.cli.support import environment

# Python tells its audit hooks about each of these calls before it makes them.
_PROGRAM = """
import os, signal, sys
number, left, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def before(event, arguments):
    global left
    changes = event in {"os.link", "os.rename", "os.remove"} or (
        event == "open" and arguments[2] & os.O_CREAT)
    if changes and any(words in str(one) for one in arguments[:2]):
        if left == 0:
            os.kill(os.getpid(), number)
        left -= 1
sys.addaudithook(before)
from proxy.cli.main import main
main(sys.argv[4:])
"""


async def ended_before(change: int, words: str, *arguments: str | Path, number: int, cwd: Path) -> int:
    """Run the command and send it signal *number* before that *change* (from 0) of a file whose path has *words*.

    Return its exit code, -9 if it was killed; it ends by itself if it makes fewer changes.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, str(number), str(change), words, *map(str, arguments),
        cwd=cwd, env=environment(), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate()
    return process.returncode or 0
