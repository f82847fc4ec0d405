"""Old systems that fetch a token by themselves: two URLs change, and no line of their code."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from proxy.callers.bearer import KEY_FILE
from proxy.credentials.keys import load_private_key, thumbprint
from proxy.settings.worker_values import FacadeValues
from proxy.simulator.clients import ADFS_CLIENT_ID, MOCK_CLIENT_ID, RESOURCES
from proxy.simulator.server import Bank
from tests.callers.clients import as_values
from tests.cli.serving import make_pair
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, records
from tests.journeys.process import Instance
from tests.journeys.support import configured, private
from tests.journeys.test_real_callers import PROGRAMS, needs, printed
from tests.journeys.waiting import until
from tests.upstream.support import OK, says
from tests.worker.support import proxy
from tests.worker.values import CALLER

ADFS = "/adfs/oauth2/token"
HELLO = "/payment/helloworld"
ANSWER_SECONDS = 30.0
FACADE = """
[facade]
paths = ["/adfs/oauth2/token"]
signing_key_files = [{keys}]

[callers.erp]
networks = ["127.0.0.0/8"]
facade_client_id = "{client_id}"
assertion_certificate_files = ["erp.crt"]
"""


class Client:
    """A running client program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, path: str = HELLO, *, method: str = "GET") -> tuple[int, int]:
        """Return the status of a call and how often the client has minted by now."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            stdin.write(f"{method} {path}\n".encode())
            await stdin.drain()
            line = (await stdout.readline()).decode()
        assert line.split()[:2] == line.split(), line + (await stdout.read()).decode()
        assert line, "the client has ended"
        status, mints = map(int, line.split())
        return status, mints

    async def mints_anew(self) -> None:
        """Call until the client has minted a second time; a worker that ends answers once more on its connections."""
        assert (await self.call())[0] == 200
        assert await self.call() == (200, 2)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the compiled Minting.java."""
    return tmp_path_factory.mktemp("classes")


@pytest.fixture(params=["requests", "HttpClient"])
async def program(request: pytest.FixtureRequest, classes: Path) -> list[str]:
    """Return the command of a client, the same whomever it calls."""
    if request.param == "requests":
        return [sys.executable, str(PROGRAMS / "minting.py")]
    needs("javac")
    if not (classes / "Minting.class").exists():
        assert await printed("javac", "-d", str(classes), str(PROGRAMS / "Minting.java")) == ""
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", str(classes), "Minting"]


@pytest.fixture
def kid(tmp_path: Path) -> str:
    """Return the name that the bank has for the client's key, which is in erp.key and erp.crt."""
    return thumbprint(x509.load_pem_x509_certificate(make_pair(tmp_path, "erp")), "sha1-hex")


@contextlib.asynccontextmanager
async def client(
    program: list[str], directory: Path, *, token_url: str, api_url: str, kid: str
) -> AsyncIterator[Client]:
    """Run the client while the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *program, token_url, api_url, ADFS_CLIENT_ID, kid, RESOURCES["payments"], str(directory / "erp.key"),
        env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def written(directory: Path, bank: Bank, *keys: str) -> Path:
    """Write a configuration whose facade has these signing keys, and return its path."""
    path = configured(directory, bank.url)
    names = ", ".join(f'"{key}"' for key in keys)
    path.write_text(path.read_text() + FACADE.format(keys=names, client_id=ADFS_CLIENT_ID))
    return path


async def reloaded(instance: Instance, directory: Path, bank: Bank, *keys: str) -> None:
    """Let the facade have these signing keys from now on."""
    before = instance.output.count(" is in force")
    written(directory, bank, *keys)
    instance.process.send_signal(signal.SIGHUP)
    await until(lambda: instance.output.count(" is in force") > before, otherwise="the configuration was not taken")


async def test_two_urls_change_and_nothing_else(
    tmp_path: Path, bank: Bank, start: Start, program: list[str], kid: str
) -> None:
    """What minted and paid at the bank does so here; the bank sees one client less, and tokens of ours only."""
    bank.world.register_adfs_client(ADFS_CLIENT_ID, (tmp_path / "erp.crt").read_bytes())
    async with client(program, tmp_path, token_url=bank.url + ADFS, api_url=bank.url, kid=kid) as it:
        assert await it.call() == (200, 1)
        assert await it.call("/payment/v2/payments", method="POST") == (201, 1)
    minted, seen = bank.world.mint_count(), len(bank.world.seen(HELLO))

    instance = await start(written(tmp_path, bank))
    url = "http://{}:{}".format(*instance.address)
    async with client(program, tmp_path, token_url=url + ADFS, api_url=url, kid=kid) as it:
        assert await it.call() == (200, 1)
        assert await it.call("/payment/v2/payments", method="POST") == (201, 1)
        assert await it.call("/elsewhere") == (404, 1)
    assert bank.world.mint_count() == minted + 1  # the proxy's own
    [through] = bank.world.seen(HELLO)[seen:]
    clients = {issued.fingerprint: issued.client_id for issued in bank.world.tokens}
    assert clients[through.token_fingerprint] == MOCK_CLIENT_ID
    [made] = await until(lambda: asked(tmp_path, ADFS), otherwise="there was no record of the token request")
    assert (made["caller"], made["note"], made["sent_upstream"]) == ("erp", "facade_token", "no")
    assert made["caller_proof"] == "network+assertion"
    [paid] = await until(lambda: asked(tmp_path, "/payment/v2/payments"), otherwise="there was no record")
    assert (paid["caller"], paid["caller_proof"]) == ("erp", "network+token")


async def test_signing_keys_are_replaced_with_overlap(
    tmp_path: Path, bank: Bank, start: Start, program: list[str], kid: str
) -> None:
    """While both keys are named, old tokens are good; with the old key gone, the client mints anew and goes on."""
    for name in ("first", "second"):
        private(tmp_path / f"{name}.key", name * 10 + "\n")
    instance = await start(written(tmp_path, bank, "first.key"))
    url = "http://{}:{}".format(*instance.address)
    async with client(program, tmp_path, token_url=url + ADFS, api_url=url, kid=kid) as it:
        assert await it.call() == (200, 1)
        await reloaded(instance, tmp_path, bank, "second.key", "first.key")
        assert await it.call() == (200, 1)
        await reloaded(instance, tmp_path, bank, "second.key")
        await it.mints_anew()


async def test_a_replaced_key_file_is_taken_without_being_told(
    tmp_path: Path, bank: Bank, start: Start, program: list[str], kid: str
) -> None:
    """The proxy's own key is replaced under it: new workers, no call fails; a broken one is refused aloud."""
    instance = await start(written(tmp_path, bank))
    key = tmp_path / "data" / KEY_FILE
    assert key.stat().st_mode & 0o077 == 0
    first = await instance.serving()
    url = "http://{}:{}".format(*instance.address)
    async with client(program, tmp_path, token_url=url + ADFS, api_url=url, kid=kid) as it:
        assert await it.call() == (200, 1)
        private(tmp_path / "next.key", "f" * 64).rename(key)

        async def replaced() -> bool:
            return not set(first) & set(await instance.serving())

        await until(replaced, otherwise="the new key was not taken")
        await it.mints_anew()
        private(tmp_path / "broken.key", "short").rename(key)
        await until(lambda: "new files of the facade refused" in instance.output, otherwise="it was not refused")
        assert await it.call() == (200, 2)


async def test_a_client_goes_on_when_its_token_has_expired(tmp_path: Path, program: list[str], kid: str) -> None:
    """It gets the 401 that it knows, mints anew, and sends again; the bank gets each call once."""
    private(tmp_path / KEY_FILE, "k" * 64)
    keys = (as_values(load_private_key(tmp_path / "erp.key")),)
    erp = replace(CALLER, facade_client_id=ADFS_CLIENT_ID, assertion_keys=keys)
    facade = FacadeValues(
        paths=(ADFS,),
        token_lifetime=1,
        signing_key_files=(),
        accepted_assertion_audiences=(),
        own_hosts=("127.0.0.1",),
    )
    async with proxy(tmp_path, says(OK), facade=facade, callers=(erp,)) as it:
        url = f"http://127.0.0.1:{it.port}"
        async with client(program, tmp_path, token_url=url + ADFS, api_url=url, kid=kid) as its:
            calls = 0
            mints = 0
            while mints < 3:
                status, mints = await its.call("/open/pay", method="POST")
                calls += 1
                assert status == 200
        assert len(it.bank.requests) == calls


def asked(directory: Path, path: str) -> list[Record]:
    """Return the records of requests through the proxy to *path*."""
    return [line for line in records(directory) if line["path"] == path]
