"""`payproxy onboard` as the process that it is, in an empty folder, and a bank that knows no certificate."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.clock import SystemClock
from proxy.credentials.keys import load_certificate, thumbprint
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import JWT_CLIENT_ID
from proxy.simulator.server import Bank, simulator
from tests.cli.support import PAYPROXY, environment

SUBJECT = "C=US,ST=New York,L=New York,O=Example,OU=Treasury,CN=payproxy-onboard"
SOON = 90.0


@dataclass(kw_only=True)
class Onboarding:
    """An empty folder, a bank that knows no certificate, and the command between them."""

    folder: Path
    bank: Bank
    flavor: str = "jwt"
    client_id: str = JWT_CLIENT_ID
    environ: dict[str, str] = field(default_factory=dict)

    def options(self, **changes: str) -> list[str]:
        """Return the options that answer every question; *changes* replace answers."""
        paths = {"jwt": "/oauth2/token", "adfs": "/adfs/oauth2/token", "basic": "/am/oauth2/alpha/access_token"}
        answers = {
            "flavor": self.flavor,
            "client_id": self.client_id,
            "subject": SUBJECT,
            "token_url": self.bank.url + paths[self.flavor],
            "url": self.bank.url,
        } | changes
        return [f"--{name.replace('_', '-')}={value}" for name, value in answers.items()]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command to its end and return exit code, stdout and stderr."""
        process = await self.start(*arguments)
        async with asyncio.timeout(SOON):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start the command without a terminal."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            PAYPROXY, "onboard", *arguments, cwd=self.folder, env=environment(**self.environ),
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe,
        )  # fmt: skip

    def upload(self, *, kid_form: str = "sha1-hex") -> None:
        """Upload the certificate, which the bank then shows and takes by that form of its thumbprint."""
        pem = (self.folder / "oauth.crt").read_bytes()
        world = self.bank.world
        if self.flavor == "jwt":
            world.register_jwt_client(self.client_id, pem, kid_forms=(kid_form,))
        else:
            world.register_adfs_client(self.client_id, pem)

    def thumbprint(self, form: str) -> str:
        """Return the thumbprint of our certificate in *form*."""
        return thumbprint(load_certificate(self.folder / "oauth.crt"), form)


@asynccontextmanager
async def onboarding_in(folder: Path) -> AsyncIterator[Onboarding]:
    """Give an empty folder in *folder* and a bank."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        (folder / "empty").mkdir()
        yield Onboarding(folder=folder / "empty", bank=bank)


def mode(path: Path) -> int:
    """Return the permission bits of *path*."""
    return stat.S_IMODE(path.stat().st_mode)


def answered(out: str) -> bool:
    """Return whether *out* says that the first call was answered."""
    return "GET /payment/helloworld with login through route payments: 200" in out


class Person:
    """Someone at a pseudo-terminal, who reads a question and answers it."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.seen = ""
        self._looked = 0

    def _read(self) -> bytes:
        with contextlib.suppress(OSError):  # EIO: the command has ended
            return os.read(self._terminal, 65536)
        return b""

    async def sees(self, words: str) -> None:
        """Read until *words* come, behind what was waited for before."""
        async with asyncio.timeout(SOON):
            while words not in self.seen[self._looked :]:
                piece = await asyncio.to_thread(self._read)
                assert piece, self.seen
                self.seen += piece.decode()
        self._looked = self.seen.index(words, self._looked) + len(words)

    async def answers(self, question: str, answer: str) -> None:
        """Wait for *question* and type *answer*."""
        await self.sees(question)
        os.write(self._terminal, f"{answer}\n".encode())
