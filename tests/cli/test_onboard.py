"""`onboard` as the process that it is, from an empty folder: straight on, and with each of the usual wrong turns."""

import asyncio
import contextlib
import os
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cli.onboard_wait import pauses
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import ADFS_CLIENT_ID, JWT_CLIENT_ID, MOCK_CLIENT_ID, MOCK_CLIENT_SECRET, RESOURCES
from proxy.simulator.server import Bank, TlsFiles, simulator
from tests.cli.onboarding import SOON, SUBJECT, Onboarding, Person, answered, mode, onboarding_in
from tests.cli.serving import make_pair
from tests.cli.support import PAYPROXY, environment
from tests.support.ports import lasting_port
from tests.upstream.certificates import Authority


@pytest.fixture
async def onboarding(tmp_path: Path) -> AsyncIterator[Onboarding]:
    """Give an empty folder and a bank."""
    async with onboarding_in(tmp_path) as place:
        yield place


async def _read_until(stream: asyncio.StreamReader, words: str) -> str:
    read = ""
    async with asyncio.timeout(SOON):
        while words not in read:
            line = await stream.readline()
            assert line, read
            read += line.decode()
    return read


@pytest.mark.parametrize("flavor", ["jwt", "adfs"])
async def test_onboard_ends_with_a_200_once_the_certificate_is_uploaded(onboarding: Onboarding, flavor: str) -> None:
    """It makes the files, says what to upload by which thumbprint, waits for that, and makes the first call."""
    onboarding.flavor = flavor
    more = {}
    if flavor == "adfs":
        onboarding.client_id = ADFS_CLIENT_ID
        onboarding.bank.world.register_adfs_client(ADFS_CLIENT_ID, make_pair(onboarding.folder.parent))
        more = {"audience": RESOURCES["payments"]}
    process = await onboarding.start(*onboarding.options(**more))
    assert process.stderr
    assert process.stdout

    said = await _read_until(process.stderr, "Not yet")
    onboarding.upload()
    out = (await process.stdout.read()).decode()

    assert await process.wait() == 0, out + said
    assert answered(out)
    assert onboarding.thumbprint("sha1-hex") in said
    assert "was not uploaded for this client" in said
    assert ("Security" in said) is (flavor == "jwt")
    assert mode(onboarding.folder / "oauth.key") == 0o600
    assert onboarding.bank.world.seen("/payment")[-1].status == 200
    assert "PRIVATE" not in said + out


async def test_onboard_with_a_client_secret(onboarding: Onboarding) -> None:
    """For Mock there is no certificate; the secret goes to a file of its own and is shown nowhere."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    onboarding.environ["JPM_CLIENT_SECRET"] = MOCK_CLIENT_SECRET

    code, out, err = await onboarding.run(*onboarding.options())

    assert (code, answered(out)) == (0, True), err
    assert mode(onboarding.folder / "client-secret") == 0o600
    assert MOCK_CLIENT_SECRET not in out + err + (onboarding.folder / "payproxy.toml").read_text()


async def test_a_wrong_client_id_is_named(onboarding: Onboarding) -> None:
    """An id that is not the bank's is among the likely causes, the first one if it has not even its form."""
    _, _, err = await onboarding.run(*onboarding.options(client_id="wrong"), "--wait=0")
    assert "credentials.login.client_id: no token" in err


async def test_a_wrong_audience_ends_the_wait_at_once(onboarding: Onboarding) -> None:
    """No upload helps, so it stops, names the setting, and gives the command that mends it."""
    await onboarding.run(*onboarding.options(audience="jpm:uri:prod:nothing"), "--wait=0")
    onboarding.upload()

    code, _, err = await onboarding.run()

    assert code == 1
    assert "routes.payments.audience" in err
    assert "payproxy onboard --audience VALUE" in err
    assert "Not yet" not in err
    code, out, err = await onboarding.run("--audience=jpm:uri:prod:payments", "--yes")
    assert (code, answered(out)) == (0, True), err


async def test_the_form_of_the_thumbprint_is_taken_from_the_page(onboarding: Onboarding) -> None:
    """The bank shows another form than usual: what it shows decides the kid; a foreign thumbprint is refused."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    onboarding.upload(kid_form="x5t")
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "--thumbprint" in err) == (1, True)
    code, _, err = await onboarding.run("--wait=0", f"--thumbprint={'AB' * 20}")
    assert (code, "another certificate is uploaded" in err) == (1, True)

    code, out, err = await onboarding.run("--wait=0", f"--thumbprint={onboarding.thumbprint('x5t')}")

    assert (code, answered(out)) == (0, True), err
    login = tomllib.loads((onboarding.folder / "payproxy.toml").read_text())["credentials"]["login"]
    assert login["key_id_format"] == "x5t"


async def test_a_clock_that_is_off_is_named(onboarding: Onboarding) -> None:
    """An hour can't be corrected for: the clock is the cause that the evidence confirms, and waiting does not help."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    onboarding.upload()
    onboarding.bank.world.clock_offset = 3600.0

    code, _, err = await onboarding.run()

    assert code == 1
    assert "60 min behind the token endpoint's" in err
    assert "NTP" in err
    onboarding.bank.world.clock_offset = 0.0
    code, out, err = await onboarding.run()
    assert (code, answered(out)) == (0, True), err


async def test_a_needed_egress_proxy_is_named(tmp_path: Path) -> None:
    """No way to the bank but a proxy that HTTPS_PROXY names: the setting is named, and an option sets it."""
    authority = Authority(tmp_path)
    own = authority.identity("bank").file
    folder = tmp_path / "empty"
    folder.mkdir()
    tls = TlsFiles(certificate=own, key=own)
    async with simulator(clock=SystemClock(), entropy=SystemEntropy(), tls=tls) as bank, _egress(bank) as way:
        nowhere = f"https://127.0.0.1:{lasting_port()}"
        bank.world.origins |= {nowhere}
        place = Onboarding(folder=folder, bank=bank)
        place.environ = {"HTTPS_PROXY": "http://user:canary@proxy.invalid:1", "SSL_CERT_FILE": str(authority.own.file)}
        away = place.options(url=nowhere, token_url=f"{nowhere}/oauth2/token")

        code, _, err = await place.run(*away)

        assert code == 1
        assert "credentials.login.egress_proxy" in err
        assert "HTTPS_PROXY is set here, which payproxy does not read" in err
        assert "payproxy onboard --egress-proxy VALUE" in err
        assert "canary" not in err
        place.upload()
        code, out, err = await place.run(f"--egress-proxy={way}", "--yes")
        assert (code, answered(out)) == (0, True), err


@contextlib.asynccontextmanager
async def _egress(bank: Bank) -> AsyncIterator[str]:
    """Run a proxy that leads to the *bank* whatever host it is asked for, and give its URL."""
    port = int(bank.url.rpartition(":")[2])

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_onboard_asks_at_a_terminal(onboarding: Onboarding) -> None:
    """Each answer is asked for, a wrong one again, and what the bank refuses is asked for and tried again."""
    ours, theirs = os.openpty()
    environ = environment(JPM_TOKEN_URL=f"{onboarding.bank.url}/oauth2/token", COLUMNS="200")
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "onboard", cwd=onboarding.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    person = Person(ours)
    try:
        await person.answers("Flavor", "")
        await person.answers("Environment", "client-testing")
        await person.answers("Client id", JWT_CLIENT_ID)
        await person.answers("Audience", "jpm:uri:prod:nothing")
        await person.answers("URL of the API", onboarding.bank.url)
        await person.answers("Subject of the certificate", "CN=alone")
        await person.sees("missing or empty")
        await person.answers("Subject of the certificate", SUBJECT)
        await person.sees("Thumbprint that the bank shows")
        onboarding.upload()
        os.write(ours, f"{onboarding.thumbprint('sha1-hex').lower()}\n".encode())
        await person.answers("Another audience", "jpm:uri:prod:payments")
        await person.sees("payproxy serve")
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(ours)
    assert answered(person.seen)


async def test_ctrl_c_leaves_what_a_later_run_needs(onboarding: Onboarding) -> None:
    """An interrupted wait ends with 130, and the next run goes on."""
    process = await onboarding.start(*onboarding.options())
    assert process.stderr
    await _read_until(process.stderr, "Not yet")
    process.send_signal(2)
    assert await process.wait() == 130
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, answered(out)) == (0, True), err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--client-id"),
        (("--client-id=x",), "--subject"),
        (("--client-id=x", "--subject=CN=alone"), "C is missing"),
        (("--flavor=basic", "--client-id=x"), "JPM_CLIENT_SECRET"),
        (("--flavor=basic", "--environment=production"), "basic is the flavor of mock"),
        (("--egress-proxy=http://user:canary@proxy:1",), "no user and password"),
    ],
)
async def test_what_is_missing_without_a_terminal(
    onboarding: Onboarding, arguments: tuple[str, ...], words: str
) -> None:
    """The option is named, the exit code is that of a wrong usage, and nothing is written."""
    code, _, err = await onboarding.run(*arguments)
    assert (code, words in err) == (2, True), err
    assert "canary" not in err
    assert not list(onboarding.folder.iterdir())


async def test_a_key_without_its_certificate_is_not_used(onboarding: Onboarding) -> None:
    """A file that is no key gets no certificate, and is not overwritten."""
    (onboarding.folder / "oauth.key").write_text("old")
    code, _, err = await onboarding.run(*onboarding.options())
    assert (code, "oauth.crt" in err) == (1, True)
    assert [path.name for path in onboarding.folder.iterdir()] == ["oauth.key"]


async def test_production_lets_this_machine_in_only(onboarding: Onboarding) -> None:
    """What it writes for production has no error, and no anonymous callers."""
    code, _, err = await onboarding.run(*onboarding.options(), "--environment=production", "--wait=0")
    assert (code, "was not uploaded" in err) == (1, True), err
    assert "tab Production" in err
    values = tomllib.loads((onboarding.folder / "payproxy.toml").read_text())
    assert values["environment"] == "production"
    assert list(values["callers"]) == ["local"]


def test_the_pauses_grow_and_end() -> None:
    """Each is twice the one before up to half a minute, all together are the time to wait."""
    found = pauses(100.0)
    assert found[:4] == [2.0, 4.0, 8.0, 16.0]
    assert max(found) == 30.0
    assert sum(found) == 100.0
    assert pauses(0.0) == []
