import asyncio
import os
import resource
import sys
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.process import Instance, Process
from tests.journeys.support import TOKEN_PATH, configured
from tests.journeys.waiting import until

# Of root's rights the one to look into other processes is taken away from all: what is left is that of the same user.
_PLAIN = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace") if os.geteuid() == 0 else ()
_AS_PLAIN = ("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *_PLAIN, sys.executable)


async def test_no_process_of_the_same_user_reads_the_memory_of_keeper_and_workers(tmp_path: Path, bank: Bank) -> None:
    """Not dumpable and without cores: what the workers always had, the keeper, which holds the keys, has too."""
    file = configured(tmp_path, bank.url)
    instance = await Instance.run(tmp_path, *_AS_PLAIN, "-m", "proxy", "serve", "--config", str(file))
    try:
        await instance.started(ready=True)
        for pid in (instance.pid, *await instance.serving()):
            assert not await _readable(pid)
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    finally:
        await instance.end()


async def test_a_command_that_reads_a_key_is_protected_as_the_keeper_is(tmp_path: Path, bank: Bank) -> None:
    """Here `token`, while it waits for the token endpoint."""
    file = configured(tmp_path, bank.url)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=60.0)
    command = await Process.run(tmp_path, *_AS_PLAIN, "-m", "proxy", "token", "hello", "--config", str(file))
    try:
        await until(lambda: bank.world.seen(TOKEN_PATH), otherwise="the token endpoint was not asked")

        assert not await _readable(command.pid)
        assert resource.prlimit(command.pid, resource.RLIMIT_CORE) == (0, 0)
    finally:
        await command.kill()


async def test_any_other_process_is_read(tmp_path: Path) -> None:
    """The two tests above see what can be seen."""
    other = await Process.run(tmp_path, *_AS_PLAIN, "-c", "import time; print('here', flush=True); time.sleep(600)")
    try:
        await until(lambda: "here" in other.output, otherwise="it did not start")

        assert await _readable(other.pid)
    finally:
        await other.kill()


async def _readable(pid: int) -> bool:
    """Return whether another process of our user can open the environment and the memory of *pid*."""
    code = f"open('/proc/{pid}/environ').close(); open('/proc/{pid}/mem').close()"
    reader = await asyncio.create_subprocess_exec(
        sys.executable, *_AS_PLAIN, "-c", code, stderr=asyncio.subprocess.PIPE
    )
    _, said = await reader.communicate()
    assert reader.returncode == 0 or b"PermissionError" in said, said
    return reader.returncode == 0
