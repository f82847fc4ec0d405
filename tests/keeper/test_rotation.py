"""Keys, certificates and secrets replaced under a running instance, with real files and a bank that checks them."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.clock import SystemClock
from proxy.credentials.credential import Credential
from proxy.entropy import SystemEntropy
from proxy.events import Event
from proxy.keeper.body_signatures import BodySignatures
from proxy.keeper.rotation import TLS, Rotation
from proxy.simulator.server import simulator
from tests.cli.serving import Site, command, make_pair, serving, site
from tests.journeys.support import configured
from tests.keeper.sharing import each_has_one, made, running
from tests.keeper.support import get
from tests.settings.support import load_text

# The object identifier of RSA keys (RFC 8017 A.1), and one of the same arc that nobody has assigned, in DER.
RSA_ENCRYPTION, UNKNOWN = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d01017f")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A running instance with a token, and in `next` the pair to come, which the bank knows as well."""
    async with site(tmp_path) as made:
        (tmp_path / "next").mkdir()
        second = make_pair(tmp_path / "next")
        made.register((tmp_path / "oauth.crt").read_bytes() + second)
        async with serving(made):
            await made.ready()
            yield made


def pids(status: dict[str, Any]) -> list[int]:
    """Return the workers' process ids."""
    return [worker["pid"] for worker in status["workers"]]


def replace_pair(place: Site) -> None:
    """Put the pair to come in the place of the one in use, one file after the other."""
    for name in ("oauth.key", "oauth.crt"):
        os.replace(place.folder / "next" / name, place.folder / name)  # noqa: PTH105 - the point of it


async def metric(place: Site) -> str:
    """Return the line of the metric that tells of refused changes."""
    text = (await get(place.admin_socket, "/metrics")).body.decode()
    [line] = [line for line in text.splitlines() if line.startswith("payproxy_config_last_reload_successful ")]
    return line.split()[1]


async def calls(place: Site) -> None:
    """Check that a call goes through although all tokens were revoked: a mint must succeed for it."""
    place.bank.world.tokens.revoke()
    done = await command("request", "GET", "/payment/helloworld", "--config", place.config)
    assert done.exit_code == 0, done.stdout


async def test_a_new_pair_is_proven_and_used(place: Site) -> None:
    """The new kid mints from then on, with the workers that were there and without a failed attempt."""
    before = pids(await place.ready())
    mints = place.bank.world.mint_count()

    replace_pair(place)
    line = await place.logged("credential login replaced")

    assert "proven by a mint" in line
    assert place.bank.world.mint_count() == mints + 1
    status = await place.ready()
    assert pids(status) == before
    assert status["reload_problem"] == ""
    assert await metric(place) == "1.0"
    # Only the new certificate is known from now on, so that what mints is the new key.
    place.register((place.folder / "oauth.crt").read_bytes())
    await calls(place)
    assert place.bank.world.refusals.total() == 0


async def test_one_file_after_the_other(place: Site) -> None:
    """A new key without its certificate is refused aloud, the old pair stays; the second file heals it."""
    os.replace(place.folder / "next" / "oauth.key", place.folder / "oauth.key")  # noqa: PTH105 - atomically
    await place.logged("refused, the old ones stay in use")
    await calls(place)

    os.replace(place.folder / "next" / "oauth.crt", place.folder / "oauth.crt")  # noqa: PTH105 - atomically
    await place.logged("credential login replaced")

    assert (await place.ready())["reload_problem"] == ""


async def test_a_half_written_file_keeps_the_old(place: Site) -> None:
    """A key that breaks off is refused: in log, status, readiness and metric; the old one mints on, and all heals."""
    key = place.folder / "oauth.key"
    whole = key.read_bytes()
    key.write_bytes(whole[: len(whole) // 2])

    line = await place.logged("refused, the old ones stay in use")
    assert "half written" in line
    assert "PRIVATE" not in line
    status = await place.until(lambda now: bool(now["reload_problem"]))
    assert status["ready"]
    assert await metric(place) == "0.0"
    assert b"[!]reload degraded: " in (await get(place.admin_socket, "/readyz?verbose")).body
    await calls(place)
    assert place.bank.world.refusals.total() == 0

    key.write_bytes(whole)
    await place.logged("credential login replaced")
    await place.until(lambda now: not now["reload_problem"])
    assert await metric(place) == "1.0"


async def test_a_pair_that_the_bank_does_not_know(place: Site) -> None:
    """The trial mint is refused, the old pair stays, and the bank sees one failed attempt, not one a second."""
    place.register((place.folder / "oauth.crt").read_bytes())

    replace_pair(place)

    line = await place.logged("refused, the old ones stay in use")
    assert "401 invalid_client" in line
    assert "next try in 30 s" in line
    await calls(place)
    await place.until(lambda now: bool(now["reload_problem"]))
    assert place.bank.world.refusals.total() == 1


async def test_a_key_for_bodies_becomes_no_credential_s(tmp_path: Path) -> None:
    """Else a worker could have an assertion signed as a body, and the next start would refuse the key."""
    async with site(tmp_path) as place:
        (tmp_path / "next").mkdir()
        place.register((tmp_path / "oauth.crt").read_bytes() + make_pair(tmp_path / "next"))
        (tmp_path / "body.key").touch(mode=0o600)
        (tmp_path / "body.key").write_bytes((tmp_path / "next" / "oauth.key").read_bytes())
        place.config.write_text(f'{place.config.read_text()}signature = {{private_key_file = "body.key"}}\n')
        async with serving(place):
            await place.ready()
            replace_pair(place)

            assert "this key signs bodies" in await place.logged("credential login ")
            await calls(place)


async def test_swapped_links(tmp_path: Path) -> None:
    """As Kubernetes does it: one link to a folder is swapped, and key and certificate change together."""
    async with site(tmp_path) as place:
        for version in ("v1", "v2"):
            (tmp_path / version).mkdir()
        pems = [make_pair(tmp_path / version) for version in ("v1", "v2")]
        place.register(b"".join(pems))
        (tmp_path / "data").symlink_to("v1")
        place.write(key="data/oauth")
        async with serving(place):
            await place.ready()
            place.register(pems[1])
            (tmp_path / "swap").symlink_to("v2")
            (tmp_path / "swap").rename(tmp_path / "data")
            await place.logged("credential login replaced")
            await calls(place)
        assert place.bank.world.refusals.total() == 0


async def test_a_new_secret(tmp_path: Path) -> None:
    """A client secret is replaced in the same way, and stands in no log line."""
    async with site(tmp_path) as place:
        world, secret = place.bank.world, tmp_path / "mock.secret"
        world.register_secret_client("mine", "canary-first")
        secret.touch(mode=0o600)
        secret.write_text("canary-first\n")
        text = place.config.read_text()
        begin, end = text.index("[credentials.login]"), text.index("[[routes]]")
        url = f"{place.bank.url}/am/oauth2/alpha/access_token"
        basic = f'[credentials.login]\nflavor = "basic"\nclient_id = "mine"\ntoken_url = "{url}"\n'
        place.config.write_text(f'{text[:begin]}{basic}client_secret_file = "mock.secret"\n{text[end:]}')
        async with serving(place):
            await place.ready()
            world.register_secret_client("mine", "canary-second")
            secret.write_text("canary-second")
            await place.logged("credential login replaced")
            await calls(place)
        assert "canary" not in "".join(place.log)


@pytest.mark.thorough
async def test_a_ca_file(tmp_path: Path) -> None:
    """CA files are read anew, and a broken one is refused."""
    async with site(tmp_path) as place:
        authority = tmp_path / "ca.crt"
        authority.write_bytes((tmp_path / "oauth.crt").read_bytes())
        place.write(credential='ca_file = "ca.crt"')
        async with serving(place):
            await place.ready()
            authority.write_text("nonsense")
            assert "ca.crt" in await place.logged("refused, the old ones stay in use")
            authority.write_bytes((tmp_path / "oauth.crt").read_bytes() * 2)
            await place.logged("credential login replaced")


@pytest.mark.thorough
async def test_tls_files_of_the_workers(tmp_path: Path) -> None:
    """What only workers read makes new workers; a broken one is refused, and the workers stay."""
    async with site(tmp_path) as place:
        authority = tmp_path / "bank-ca.crt"
        authority.write_bytes((tmp_path / "oauth.crt").read_bytes())
        place.write(upstream='ca_file = "bank-ca.crt"')
        async with serving(place):
            first = pids(await place.ready())
            mints = place.bank.world.mint_count()
            authority.write_text("nonsense")
            assert "upstreams.bank.ca_file" in await place.logged("new files of TLS refused")
            assert pids(await place.ready()) == first
            authority.write_bytes((tmp_path / "oauth.crt").read_bytes() * 2)
            await place.until(lambda now: not set(first) & set(pids(now)) and now["ready"])
            done = await command("request", "GET", "/payment/helloworld", "--config", place.config)
            assert done.exit_code == 0, done.stdout
            assert place.bank.world.mint_count() == mints


async def test_a_certificate_of_an_unknown_kind_of_key(tmp_path: Path) -> None:
    """Of a key behind a program only the certificate is read: it is refused like any other, also by a reload."""
    async with site(tmp_path) as place:
        program, certificate = tmp_path / "sign", tmp_path / "oauth.crt"
        program.write_text(f"#!/bin/sh\nopenssl dgst -sha256 -sign {tmp_path}/oauth.key -binary | base64 -w0\n")
        program.chmod(0o755)
        text = place.config.read_text()
        place.config.write_text(text.replace('private_key_file = "oauth.key"', f'signer_command = ["{program}"]'))
        good = certificate.read_bytes()
        async with serving(place):
            await place.ready()
            der = x509.load_pem_x509_certificate(good).public_bytes(Encoding.DER)
            certificate.write_text(ssl.DER_cert_to_PEM_cert(der.replace(RSA_ENCRYPTION, UNKNOWN)))
            assert "name the certificate of an RSA key" in await place.logged("refused, the old ones stay in use")
            assert place.process is not None
            place.process.send_signal(signal.SIGHUP)
            assert "name the certificate of an RSA key" in await place.logged("configuration refused")
            certificate.write_bytes(good)
            await place.logged("credential login replaced")
            await calls(place)


@pytest.mark.parametrize("name", ["mock", TLS])
async def test_a_defect_refuses_the_files_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever a file or a module does to us, the keeper goes on with what it has, and takes the next files."""
    broken = [True]

    async def renew() -> None:
        if broken:
            raise ZeroDivisionError

    async def replaced() -> None:
        """Nothing depends on it here."""

    def load(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        one, events = made(tmp_path / "a", bank, ""), list[Event]()
        loaded = load_text(tmp_path / "a", configured(tmp_path / "a", bank.url).read_text())
        assert loaded.settings is not None
        rotation = Rotation(
            token_manager=lambda: one.manager,
            signatures=lambda: BodySignatures(
                {}, callers=(), clock=SystemClock(), observe=events.append, count=lambda *_: None
            ),
            renew=renew,
            replaced=replaced,
            lock=asyncio.Lock(),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            observe=events.append,
        )
        rotation.follow(loaded.settings)
        async with running(one):
            await each_has_one(one)
            with monkeypatch.context() as patched:
                patched.setattr(Credential, "load", load)
                await rotation._take(name)
            assert "a defect of the proxy: ZeroDivisionError" in rotation.problems[name]
            broken.clear()
            await rotation._take(name)
            assert not rotation.problems
