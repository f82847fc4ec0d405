"""`onboard` as the process that it is, from an empty folder: straight on, and with each of the usual wrong turns."""

import asyncio
import contextlib
import os
import signal
import stat
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.cli.onboard_wait import pauses
from proxy.clock import SystemClock
from proxy.credentials.keys import load_certificate, thumbprint
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import ADFS_CLIENT_ID, JWT_CLIENT_ID, MOCK_CLIENT_ID, MOCK_CLIENT_SECRET, RESOURCES
from proxy.simulator.server import Bank, TlsFiles, simulator
from tests.cli.killed import ended_before
from tests.cli.serving import make_pair
from tests.cli.support import PAYPROXY, environment
from tests.support.ports import lasting_port
from tests.upstream.certificates import Authority

_SUBJECT = "C=US,ST=New York,L=New York,O=Example,OU=Treasury,CN=payproxy-onboard"
_SOON = 90.0


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
            "subject": _SUBJECT,
            "token_url": self.bank.url + paths[self.flavor],
            "url": self.bank.url,
        } | changes
        return [f"--{name.replace('_', '-')}={value}" for name, value in answers.items()]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command to its end and return exit code, stdout and stderr."""
        process = await self.start(*arguments)
        async with asyncio.timeout(_SOON):
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


@pytest.fixture
async def onboarding(tmp_path: Path) -> AsyncIterator[Onboarding]:
    """Give an empty folder and a bank."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        (tmp_path / "empty").mkdir()
        yield Onboarding(folder=tmp_path / "empty", bank=bank)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def _read_until(stream: asyncio.StreamReader, words: str) -> str:
    read = ""
    async with asyncio.timeout(_SOON):
        while words not in read:
            line = await stream.readline()
            assert line, read
            read += line.decode()
    return read


def _answered(out: str) -> bool:
    return "GET /payment/helloworld with login through route payments: 200" in out


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
    assert _answered(out)
    assert onboarding.thumbprint("sha1-hex") in said
    assert "was not uploaded for this client" in said
    assert ("Security" in said) is (flavor == "jwt")
    assert _mode(onboarding.folder / "oauth.key") == 0o600
    assert onboarding.bank.world.seen("/payment")[-1].status == 200
    assert "PRIVATE" not in said + out


async def test_onboard_with_a_client_secret(onboarding: Onboarding) -> None:
    """For Mock there is no certificate; the secret goes to a file of its own and is shown nowhere."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    onboarding.environ["JPM_CLIENT_SECRET"] = MOCK_CLIENT_SECRET

    code, out, err = await onboarding.run(*onboarding.options())

    assert (code, _answered(out)) == (0, True), err
    assert _mode(onboarding.folder / "client-secret") == 0o600
    assert MOCK_CLIENT_SECRET not in out + err + (onboarding.folder / "payproxy.toml").read_text()


async def test_a_later_run_goes_on_and_changes_nothing(onboarding: Onboarding) -> None:
    """Who gave up takes the same command again: key, certificate and configuration stay as they are."""
    code, _, err = await onboarding.run(*onboarding.options(), "--wait=0")
    assert (code, "goes on from here" in err) == (1, True)
    before = {path.name: path.read_bytes() for path in onboarding.folder.iterdir()}
    assert set(before) == {"oauth.key", "oauth.crt", "payproxy.toml"}
    onboarding.upload()

    code, out, err = await onboarding.run()

    assert (code, _answered(out)) == (0, True), err
    assert {path.name: path.read_bytes() for path in onboarding.folder.iterdir()} == before


async def test_another_value_needs_a_yes(onboarding: Onboarding) -> None:
    """An option that contradicts the file changes it only with --yes, and nothing but that value."""
    await onboarding.run(*onboarding.options(client_id="wrong"), "--wait=0")
    onboarding.upload()
    before = (onboarding.folder / "payproxy.toml").read_text()

    code, _, err = await onboarding.run(f"--client-id={JWT_CLIENT_ID}", "--wait=0")
    assert (code, "--yes" in err) == (2, True)
    assert (onboarding.folder / "payproxy.toml").read_text() == before
    code, out, err = await onboarding.run(f"--client-id={JWT_CLIENT_ID}", "--wait=0", "--yes")

    assert (code, _answered(out)) == (0, True), err
    assert (onboarding.folder / "payproxy.toml").read_text() == before.replace('"wrong"', f'"{JWT_CLIENT_ID}"')


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
    assert (code, _answered(out)) == (0, True), err


async def test_the_form_of_the_thumbprint_is_taken_from_the_page(onboarding: Onboarding) -> None:
    """The bank shows another form than usual: what it shows decides the kid; a foreign thumbprint is refused."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    onboarding.upload(kid_form="x5t")
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "--thumbprint" in err) == (1, True)
    code, _, err = await onboarding.run("--wait=0", f"--thumbprint={'AB' * 20}")
    assert (code, "another certificate is uploaded" in err) == (1, True)

    code, out, err = await onboarding.run("--wait=0", f"--thumbprint={onboarding.thumbprint('x5t')}")

    assert (code, _answered(out)) == (0, True), err
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
    assert (code, _answered(out)) == (0, True), err


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
        assert (code, _answered(out)) == (0, True), err


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


class _Person:
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
        async with asyncio.timeout(_SOON):
            while words not in self.seen[self._looked :]:
                piece = await asyncio.to_thread(self._read)
                assert piece, self.seen
                self.seen += piece.decode()
        self._looked = self.seen.index(words, self._looked) + len(words)

    async def answers(self, question: str, answer: str) -> None:
        """Wait for *question* and type *answer*."""
        await self.sees(question)
        os.write(self._terminal, f"{answer}\n".encode())


async def test_onboard_asks_at_a_terminal(onboarding: Onboarding) -> None:
    """Each answer is asked for, a wrong one again, and what the bank refuses is asked for and tried again."""
    ours, theirs = os.openpty()
    environ = environment(JPM_TOKEN_URL=f"{onboarding.bank.url}/oauth2/token", COLUMNS="200")
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "onboard", cwd=onboarding.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    person = _Person(ours)
    try:
        await person.answers("Flavor", "")
        await person.answers("Environment", "client-testing")
        await person.answers("Client id", JWT_CLIENT_ID)
        await person.answers("Audience", "jpm:uri:prod:nothing")
        await person.answers("URL of the API", onboarding.bank.url)
        await person.answers("Subject of the certificate", "CN=alone")
        await person.sees("missing or empty")
        await person.answers("Subject of the certificate", _SUBJECT)
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
    assert _answered(person.seen)


async def test_ctrl_c_leaves_what_a_later_run_needs(onboarding: Onboarding) -> None:
    """An interrupted wait ends with 130, and the next run goes on."""
    process = await onboarding.start(*onboarding.options())
    assert process.stderr
    await _read_until(process.stderr, "Not yet")
    process.send_signal(2)
    assert await process.wait() == 130
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, _answered(out)) == (0, True), err


# A key, a certificate and the configuration, each created, linked and without its temporary name.
_CHANGES = 9


@pytest.mark.parametrize(
    ("number", "change"),
    [*((signal.SIGKILL, change) for change in range(_CHANGES + 1)), (signal.SIGINT, 1), (signal.SIGINT, 7)],
)
async def test_an_end_at_any_moment_leaves_what_a_later_run_needs(
    onboarding: Onboarding, number: int, change: int
) -> None:
    """Killed or interrupted before each change of a file, the same command goes on, and makes the first call."""
    arguments = (*onboarding.options(), "--wait=0")
    folder = onboarding.folder
    ended = await ended_before(change, f"{folder}/", "onboard", *arguments, number=number, cwd=folder)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 130
    assert ended == (expected if change < _CHANGES else 1)

    code, _, err = await onboarding.run(*arguments)
    assert (code, "goes on from here" in err) == (1, True), err
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, _answered(out)) == (0, True), err
    assert {path.name for path in folder.glob("[!.]*")} == {"oauth.key", "oauth.crt", "payproxy.toml"}


async def test_a_configuration_without_its_pair_gets_one(onboarding: Onboarding) -> None:
    """What `init` has written, or an older version before it was interrupted, is completed."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    for name in ("oauth.key", "oauth.crt"):
        (onboarding.folder / name).unlink()
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "give --subject" in err) == (2, True), err
    code, _, err = await onboarding.run(f"--subject={_SUBJECT}", "--wait=0")
    assert (code, "goes on from here" in err) == (1, True), err
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, _answered(out)) == (0, True), err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--environment=production", "payproxy.toml is for client-testing, and every environment needs"),
        ("--flavor=basic", "has the flavor jwt; for basic begin in another folder"),
        ("--flavor=adfs", "has the flavor jwt; for adfs begin in another folder"),
        (f"--subject={_SUBJECT}x", "oauth.crt is there with another subject"),
    ],
)
async def test_what_a_later_run_can_not_change_is_refused(onboarding: Onboarding, option: str, words: str) -> None:
    """Whether --yes is given or not; nothing is changed, and the values that are there may be said again."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    before = {path.name: path.read_bytes() for path in onboarding.folder.iterdir()}
    onboarding.upload()

    code, out, err = await onboarding.run(option, "--client-id=other", "--yes", "--wait=0")

    assert (code, words in " ".join(err.split())) == (2, True), err
    assert {path.name: path.read_bytes() for path in onboarding.folder.iterdir()} == before
    same = (*onboarding.options(), "--environment=client-testing")
    code, out, err = await onboarding.run(*same, "--wait=0")
    assert (code, _answered(out)) == (0, True), err


async def test_a_wrong_client_secret_is_replaced(onboarding: Onboarding) -> None:
    """The file is named; another secret needs a yes; a file that was removed is written again."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    onboarding.environ["JPM_CLIENT_SECRET"] = "wrong-secret-of-the-client"
    file = onboarding.folder / "client-secret"
    code, _, err = await onboarding.run(*onboarding.options(), "--wait=0")
    said = " ".join(err.split())
    assert (code, f"into {file}" in said, "JPM_CLIENT_SECRET" in said) == (1, True, True), err

    onboarding.environ["JPM_CLIENT_SECRET"] = MOCK_CLIENT_SECRET
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "--yes replaces it" in " ".join(err.split())) == (2, True), err
    assert "wrong" in file.read_text()
    code, out, err = await onboarding.run("--wait=0", "--yes")
    assert (code, _answered(out)) == (0, True), err
    assert _mode(file) == 0o600
    assert MOCK_CLIENT_SECRET not in out + err

    file.unlink()
    code, out, err = await onboarding.run("--wait=0")
    assert (code, _answered(out), file.read_text()) == (0, True, f"{MOCK_CLIENT_SECRET}\n"), err


async def test_a_wrong_client_secret_is_asked_for_again(onboarding: Onboarding) -> None:
    """A person at the terminal types the right one, which is not shown."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "onboard", *onboarding.options(), cwd=onboarding.folder, env=environment(COLUMNS="200"),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,  # else it asks at pytest's own terminal
    )  # fmt: skip
    os.close(theirs)
    person = _Person(ours)
    try:
        await person.answers("Client secret (not shown)", "wrong-secret-of-the-client")
        await person.answers("Another client secret", MOCK_CLIENT_SECRET)
        await person.sees("payproxy serve")
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(ours)
    assert _answered(person.seen)
    assert MOCK_CLIENT_SECRET not in person.seen
    assert (onboarding.folder / "client-secret").read_text() == f"{MOCK_CLIENT_SECRET}\n"


async def test_an_egress_proxy_is_taken_back(onboarding: Onboarding) -> None:
    """An empty value removes it, and says so; where none is set it changes nothing."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    onboarding.upload()
    before = (onboarding.folder / "payproxy.toml").read_text()
    code, out, err = await onboarding.run("--egress-proxy=", "--wait=0")
    assert (code, _answered(out)) == (0, True), err
    assert (onboarding.folder / "payproxy.toml").read_text() == before
    code, _, err = await onboarding.run("--egress-proxy=http://127.0.0.1:9", "--yes", "--wait=0")
    assert code == 1, err

    code, out, err = await onboarding.run("--egress-proxy=", "--yes", "--wait=0")

    assert (code, _answered(out)) == (0, True), err


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
