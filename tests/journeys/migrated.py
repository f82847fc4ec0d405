"""A configuration with a migration between two clients of the simulator, and the commands that move it."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.simulator.clients import MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from proxy.simulator.server import Bank
from tests.journeys.caller import Request, ask
from tests.journeys.evidence import record
from tests.journeys.process import Instance, Process
from tests.journeys.support import TOKEN_PATH, private
from tests.journeys.waiting import until

LEGACY_CLIENT, LEGACY_SECRET = "legacy-client", "legacy-secret"
TABLE = """
[migrations.payments]
routes = ["payments", "hello"]
legacy = {{ credential = "old", scope = "jpm:payments:sandbox" }}
modern = {{ credential = "new", scope = "jpm:payments:sandbox" }}
{more}
"""

_CONFIGURATION = """\
environment = "mock"
data_directory = "data"

[server]
listen = "127.0.0.1:0"
{server}

[admin]
listen = "127.0.0.1:0"

[request_log]
file = "requests.jsonl"

[upstreams.simulator]
url = "{bank}"

[credentials.old]
flavor = "basic"
client_id = "{legacy}"
client_secret_file = "old.secret"
token_url = "{bank}{path}"

[credentials.new]
flavor = "basic"
client_id = "{modern}"
client_secret_file = "new.secret"
token_url = "{bank}{path}"

[[routes]]
name = "hello"
path = "/payment/helloworld"
upstream = "simulator"
credential = "old"

[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "simulator"
credential = "old"
"""


def migrated(
    directory: Path,
    bank: Bank,
    *,
    server: str = "",
    callers: Sequence[str] = (),
    table: str = TABLE.format(more=""),
    more: str = "",
) -> Path:
    """Write a configuration with the migration "payments", and return its path; the bank knows both clients."""
    bank.world.register_secret_client(LEGACY_CLIENT, LEGACY_SECRET)
    private(directory / "old.secret", LEGACY_SECRET)
    private(directory / "new.secret", MOCK_CLIENT_SECRET)
    text = _CONFIGURATION.format(
        server=server, bank=bank.url, legacy=LEGACY_CLIENT, modern=MOCK_CLIENT_ID, path=TOKEN_PATH
    )
    for caller in callers:
        text += f'[callers.{caller}]\napi_key_sha256 = ["{hashlib.sha256(caller.encode()).hexdigest()}"]\n'
    path = directory / "payproxy.toml"
    path.write_text(text + table + more)
    return path


async def migration(directory: Path, configuration: Path, *arguments: str) -> tuple[int, Any]:
    """Run `payproxy migration ... --json` and return its exit code with its data, or with what it says on stderr."""
    process = await Process.run(
        directory, "-m", "proxy", "migration", *arguments, "--config", str(configuration), "--json"
    )
    code = await process.exit_code()
    said = process.stdout.read_text()
    return code, json.loads(said) if said else process.stderr.read_text()


async def set_weight(directory: Path, configuration: Path, weight: int, *arguments: str) -> Any:
    """Set the weight and return the state."""
    code, state = await migration(
        directory, configuration, "set", "payments", str(weight), "--reason", "a test", *arguments
    )
    assert code == 0, state
    return state


async def side_of(instance: Instance, directory: Path, request: Request) -> str:
    """Send *request* and return the side that its record names."""
    answer = await ask(instance.address, request)
    assert answer.status < 400, answer.body
    found = await until(lambda: record(directory, answer.request_id), otherwise="there was no record")
    side: str = found["side"]
    return side


async def all_on(instance: Instance, directory: Path, side: str) -> bool:
    """Return whether twenty requests on connections of their own, so of all workers, go to *side*."""
    sides = await asyncio.gather(*(side_of(instance, directory, Request()) for _ in range(20)))
    return set(sides) == {side}
