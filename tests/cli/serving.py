"""A simulator in the test's own process, and `payproxy serve` beside it as the process that it is."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from proxy.cli.main import payproxy
from proxy.clock import SystemClock
from proxy.credentials.csr import Subject, key_pem, new_key, public_pem, self_signed
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import ADFS_CLIENT_ID, AUDIENCES, JWT_CLIENT_ID, RESOURCES
from proxy.simulator.server import Bank, simulator
from tests.cli.support import environment
from tests.keeper.support import get
from tests.support.ports import lasting_port

SUBJECT = Subject.parse("C=US, ST=New York, L=New York, O=Example, OU=Treasury, CN=test")
FLAVORS: Mapping[str, Mapping[str, str]] = {
    "jwt": {"client_id": JWT_CLIENT_ID, "path": "/oauth2/token", "audience": AUDIENCES["payments"]},
    "adfs": {"client_id": ADFS_CLIENT_ID, "path": "/adfs/oauth2/token", "audience": RESOURCES["payments"]},
}
_SOON = 90.0


@dataclass(kw_only=True)
class Site:
    """A folder with oauth.key, oauth.crt and payproxy.toml, and the bank that knows the certificate."""

    folder: Path
    bank: Bank
    flavor: str
    port: int = 0
    log: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> Path:
        """Return the path of the configuration."""
        return self.folder / "payproxy.toml"

    @property
    def admin_socket(self) -> Path:
        """Return the path of the admin socket."""
        return self.folder / "payproxy-data" / "admin.sock"

    def write(self, *, credential: str = "", server: str = "", upstream: str = "", **changes: str) -> None:
        """Write the configuration; *changes* replace client_id, path, audience, scope, and the rest are lines."""
        values = {**FLAVORS[self.flavor], "scope": "", "key": "oauth", **changes}
        self.config.write_text(
            f'environment = "client-testing"\n[server]\nlisten = "127.0.0.1:{self.port}"\n{server}\n'
            '[admin]\nlisten = ""\n[request_log]\nstdout = false\n'
            f'[upstreams.bank]\nurl = "{self.bank.url}"\n{upstream}\n'
            f'[credentials.login]\nflavor = "{self.flavor}"\nclient_id = "{values["client_id"]}"\n'
            f'private_key_file = "{values["key"]}.key"\ncertificate_file = "{values["key"]}.crt"\n'
            f'token_url = "{values.get("token_url") or self.bank.url + values["path"]}"\n{credential}\n'
            '[[routes]]\nname = "payments"\npath = "/payment"\nupstream = "bank"\ncredential = "login"\n'
            f'audience = "{values["audience"]}"\nscope = "{values["scope"]}"\n'
        )

    def register(self, pem: bytes, **how: Any) -> None:
        """Register the certificate at the bank."""
        world = self.bank.world
        register = world.register_jwt_client if self.flavor == "jwt" else world.register_adfs_client
        register(FLAVORS[self.flavor]["client_id"], pem, **how)

    async def ready(self) -> dict[str, Any]:
        """Return the instance's status once it is ready."""
        return await self.until(lambda status: bool(status["ready"]))

    async def until(self, holds: Any) -> dict[str, Any]:
        """Return the instance's status once *holds* of it."""
        async with asyncio.timeout(_SOON):
            while True:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    answer = await get(self.admin_socket, "/api/status")
                    status: dict[str, Any] = answer.json
                    if holds(status):
                        return status
                if self.process is not None and self.process.returncode is not None:
                    raise AssertionError("the proxy ended: " + "".join(self.log))
                await asyncio.sleep(0.03)

    async def logged(self, words: str) -> str:
        """Return the first line of the instance's log that has *words*."""
        async with asyncio.timeout(_SOON):
            while True:
                for line in self.log:
                    if words in line:
                        return line
                await asyncio.sleep(0.03)


def make_pair(folder: Path, name: str = "oauth", *, age: float = 86400.0) -> bytes:
    """Write NAME.key and NAME.crt, made *age* seconds ago, into *folder* and return the certificate as PEM."""
    own = new_key()
    pem = public_pem(self_signed(own, SUBJECT, now=SystemClock().now() - age, entropy=SystemEntropy()))
    private = folder / f"{name}.key"
    private.touch(mode=0o600)
    private.write_bytes(key_pem(own))
    (folder / f"{name}.crt").write_bytes(pem)
    return pem


@asynccontextmanager
async def site(folder: Path, *, flavor: str = "jwt") -> AsyncIterator[Site]:
    """Give a site whose certificate the bank knows and whose configuration is right."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        made = Site(folder=folder, bank=bank, flavor=flavor, port=lasting_port())
        made.register(make_pair(folder))
        made.write()
        yield made


@asynccontextmanager
async def serving(place: Site) -> AsyncIterator[Site]:
    """Run `payproxy serve` with the site's configuration while the block lasts."""
    place.process = process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(place.config),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    reading = asyncio.create_task(_collect(process, place.log))
    try:
        yield place
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(_SOON):
                await process.wait()
        await reading


async def _collect(process: asyncio.subprocess.Process, log: list[str]) -> None:
    if process.stderr is not None:
        while line := await process.stderr.readline():
            log.append(line.decode())


async def command(*arguments: str | Path, data: bytes = b"") -> Result:
    """Run `payproxy` in a thread, so that the simulator can answer meanwhile."""
    return await asyncio.to_thread(CliRunner().invoke, payproxy, list(map(str, arguments)), input=data)
