"""`serve` with its key in SoftHSM2: it mints, renews, survives what a token does, and has no byte of the key."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.simulator.clients import AUDIENCES
from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import Answer, ask, payment
from tests.journeys.conftest import Start
from tests.journeys.memory import found_in_memory
from tests.journeys.process import Instance, Process, children
from tests.journeys.support import configured, private
from tests.journeys.waiting import until
from tests.support.softhsm import MODULE, Token, faulty_module, needs_softhsm

CLIENT = "key-in-token"

_CREDENTIAL = """\
flavor = "jwt"
client_id = "{client}"
token_url = "{bank}/oauth2/token"
private_key_uri = "{uri}"
certificate_file = "{certificate}"
{more}
"""

pytestmark = needs_softhsm


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The key that is imported, and its certificate."""
    return make_pair(tmp_path)


@pytest.fixture
def token(tmp_path: Path, pair: tuple[Path, Path]) -> Token:
    """A token with that key."""
    (tmp_path / "hsm").mkdir()
    token = Token(tmp_path / "hsm")
    token.import_key(pair[0], label="oauth")
    return token


def configuration(
    folder: Path, bank: Bank, token: Token, certificate: Path, *, module: str | Path = MODULE, more: str = ""
) -> Path:
    """Write a configuration that signs with the key in *token*."""
    bank.world.register_jwt_client(CLIENT, certificate.read_bytes())
    credential = _CREDENTIAL.format(
        client=CLIENT, bank=bank.url, uri=token.uri(module=module), certificate=certificate, more=more
    )
    return configured(
        folder,
        bank.url,
        server="workers = 2",
        credential=credential,
        route=f'audience = "{AUDIENCES["payments"]}"',
    )


async def pays(instance: Instance) -> bool:
    """Return whether all of some payments are executed, or have been."""
    answers = await asyncio.gather(*(ask(instance.address, payment(f"order-{number}")) for number in range(8)))
    return {answer.status for answer in answers} <= {200, 201}


async def unavailable(instance: Instance) -> Answer:
    """Return the first answer that says that there is no token; those before are the bank's refusals."""

    async def refused() -> Answer | None:
        answer = await ask(instance.address, payment("unpaid"))
        return answer if answer.json.get("code") == "token_unavailable" else None

    answer = await until(refused, otherwise="no answer said that there is no token")
    assert answer is not None
    assert answer.json["sent_upstream"] == "no"
    return answer


def signers(instance: Instance) -> set[int]:
    """Return the children of the keeper that load the module."""
    found = set()
    for pid in children(instance.pid):
        with contextlib.suppress(OSError):  # it has just ended
            if b"pkcs11_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="reading the memory of other processes needs root")
async def test_the_key_in_a_token_is_in_no_process_of_ours(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """It mints and renews; primes and exponent are nowhere in keeper and workers, and the PIN in no worker."""
    instance = await start(configuration(tmp_path, bank, token, pair[1]), env=token.environment)
    bank.world.tokens.revoke()
    assert await pays(instance)
    assert bank.world.mint_count() >= 2

    key = load_pem_private_key(pair[0].read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    secrets = [
        number.to_bytes(size, order)
        for number, size in ((numbers.p, 128), (numbers.q, 128), (numbers.d, 256))
        for order in ("little", "big")
    ]
    modulus = numbers.public_numbers.n.to_bytes(256, "big")
    [signer] = signers(instance)

    async def both() -> list[int] | None:
        workers = await instance.serving()
        return workers if len(workers) == 2 else None

    workers = await until(both, otherwise="two workers did not serve")
    assert workers is not None
    assert found_in_memory(instance.pid, [modulus[:64], modulus[::-1][:64]]), "the search does not find what is there"
    for pid in (instance.pid, *workers):
        assert found_in_memory(pid, secrets) == set()
        assert "softhsm" not in mapped(pid)
    assert "libsofthsm2" in mapped(signer)
    for pid in workers:
        assert found_in_memory(pid, [token.pin_file.read_bytes()]) == set()


async def test_a_token_that_is_pulled_out(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """Requests go on with the token that is valid; once that is refused they fail and say so, until it is back."""
    instance = await start(configuration(tmp_path, bank, token, pair[1]), env=token.environment)
    assert await pays(instance)
    token.take_away()
    for pid in signers(instance):  # the vendor's daemon restarts: its sessions are gone
        os.kill(pid, 9)
    assert await pays(instance)
    bank.world.tokens.revoke()

    answer = await unavailable(instance)
    assert answer.json["detail"] == "The key of credential mock can't sign: no token was requested."
    assert b"softhsm" not in answer.body
    assert await instance.is_ready()
    [state] = {token["error"] for token in (await instance.status())["tokens"]}
    assert "the token is not there" in state
    token.bring_back()

    await until(partial(pays, instance), otherwise="it did not mint again")


async def test_serve_starts_while_the_token_is_away(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """Other credentials have nothing to do with it; it mints as soon as the token is there."""
    token.take_away()
    instance = await start(configuration(tmp_path, bank, token, pair[1]), env=token.environment)
    assert "the token is not there" in instance.stderr.read_text()
    token.bring_back()

    await until(partial(pays, instance), otherwise="it did not mint")


async def test_a_module_that_hangs_keeps_one_thread(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """Mints fail within the credential's timeout, keeper and workers live on, and it recovers by itself."""
    module = faulty_module(tmp_path)
    instance = await start(
        configuration(tmp_path, bank, token, pair[1], module=module, more="timeout = 1"), env=token.environment
    )
    token.fail("sign hang", "initialize hang")
    bank.world.tokens.revoke()
    await unavailable(instance)

    async def said() -> bool:
        return "did not answer in time" in str((await instance.status())["tokens"])

    await until(said, otherwise="the status does not name the module")
    assert len([name for name in threads(instance.pid) if name.startswith("signer")]) <= 1
    assert len(signers(instance)) <= 1
    assert await instance.is_ready()
    token.faults.unlink()

    await until(partial(pays, instance), otherwise="it did not mint again")


async def test_a_wrong_pin_is_no_loop(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """The token's PIN is changed while we run: one try, until somebody changes the file too."""
    module = faulty_module(tmp_path)
    instance = await start(configuration(tmp_path, bank, token, pair[1], module=module), env=token.environment)
    tried = token.logins
    token.change_pin("0815-another")
    for pid in signers(instance):
        os.kill(pid, 9)
    bank.world.tokens.revoke()
    await unavailable(instance)
    await until(lambda: logged(instance, "the PIN is wrong") >= 3, otherwise="it did not try to mint three times")
    assert token.logins == tried + 1
    token.pin_file.write_text("0815-another\n")

    await until(partial(pays, instance), otherwise="it did not take the new PIN file")


async def test_a_wrong_pin_in_the_file_is_tried_once(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """Neither a reload nor the same bytes written anew are a change; the key mints on with the PIN it has."""
    module = faulty_module(tmp_path)
    instance = await start(configuration(tmp_path, bank, token, pair[1], module=module), env=token.environment)
    tried, right = token.logins, token.pin_file.read_text()
    token.pin_file.write_text("0815-wrong")
    refusal = "new files of credential mock refused"
    await until(lambda: logged(instance, refusal), otherwise="the PIN was not refused")
    line = next(line for line in instance.stderr.read_text().splitlines() if refusal in line)
    assert "the PIN is wrong" in line
    assert "next try" not in line
    for number in (1, 2, 3):
        instance.process.send_signal(signal.SIGHUP)
        await until(
            lambda times=number: logged(instance, "configuration refused") == times,  # type: ignore[misc]
            otherwise="the reload took the wrong PIN",
        )
    token.pin_file.unlink()
    await until(lambda: logged(instance, refusal) == 2, otherwise="the missing file was not refused")
    private(token.pin_file, "0815-wrong")
    await until(lambda: logged(instance, refusal) == 3, otherwise="the same PIN was not refused again")
    assert token.logins == tried + 1
    bank.world.tokens.revoke()
    assert await pays(instance)
    token.pin_file.write_text(right)

    await until(lambda: logged(instance, "credential mock replaced"), otherwise="it did not take the right PIN")


async def test_a_pin_refused_by_a_reload_is_not_tried_by_others(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """The process that reads the configuration tells what it has found, so the watch of the files does not try it."""
    module = faulty_module(tmp_path)
    instance = await start(configuration(tmp_path, bank, token, pair[1], module=module), env=token.environment)
    tried = token.logins
    token.pin_file.write_text("0815-wrong")
    instance.process.send_signal(signal.SIGHUP)
    await until(lambda: logged(instance, "configuration refused"), otherwise="the reload took the wrong PIN")
    await until(lambda: logged(instance, "new files of credential mock refused"), otherwise="the file was not refused")

    assert token.logins == tried + 1


@pytest.mark.thorough
async def test_the_file_is_written_before_the_pin_is_changed(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """The token's flags show that somebody has logged in, so that neither SIGHUP nor a file is needed."""
    module = faulty_module(tmp_path)
    instance = await start(configuration(tmp_path, bank, token, pair[1], module=module), env=token.environment)
    tried = token.logins
    token.pin_file.write_text("0815-another")
    refusal = "new files of credential mock refused"
    await until(lambda: logged(instance, refusal), otherwise="the PIN was not refused")
    assert token.logins == tried + 1
    token.change_pin("0815-another")

    await until(lambda: logged(instance, "credential mock replaced"), otherwise="the login by hand was not seen")
    assert logged(instance, refusal) == 1


@pytest.mark.parametrize(
    ("command", "code"), [("check", 1), ("check --online", 1), ("doctor --offline", 1), ("serve", 78)]
)
async def test_a_command_tries_a_wrong_pin_once(  # noqa: PLR0917 - fixtures and a table's columns
    tmp_path: Path, bank: Bank, token: Token, pair: tuple[Path, Path], command: str, code: int
) -> None:
    """However many credentials and rules have keys in the token, and though it does not show how many were wrong."""
    module = faulty_module(tmp_path)
    path = configuration(tmp_path, bank, token, pair[1], module=module)
    more = _CREDENTIAL.format(
        client="another", bank=bank.url, uri=token.uri(module=module), certificate=pair[1], more=""
    )
    signature = f'private_key_uri = "{token.uri("bodies", module=module)}"'
    token.prepare("session.generate_keypair(KeyType.RSA, 2048, store=True, label='bodies')")
    path.write_text(
        f"{path.read_text()}signature = {{{signature}}}\n[credentials.second]\n{more}[credentials.third]\n{more}"
    )
    token.fail("unflagged always")
    token.pin_file.write_text("0815-wrong")
    words = command.split()
    process = await Process.run(tmp_path, "-m", "proxy", *words, "--config", str(path), env=token.environment)
    assert await process.exit_code() == code, process.output

    assert process.output.count("the PIN is wrong") >= 4
    assert token.logins == 1


def logged(instance: Instance, words: str) -> int:
    """Return how often *words* are in the log."""
    return instance.stderr.read_text().count(words)


def threads(pid: int) -> list[str]:
    """Return the names of the threads of *pid*."""
    return [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]


def mapped(pid: int) -> str:
    """Return which files the process *pid* has in its memory."""
    return Path(f"/proc/{pid}/maps").read_text()


async def test_from_a_file_into_a_token_without_a_restart(
    tmp_path: Path, bank: Bank, start: Start, token: Token, pair: tuple[Path, Path]
) -> None:
    """SIGHUP takes the new key after a mint with it; while the token is away the key in the file stays in use."""
    (tmp_path / "file").mkdir()
    key, certificate = make_pair(tmp_path / "file")
    path = configuration(tmp_path, bank, token, pair[1])
    moved = path.read_text()
    in_file = moved.replace(f'private_key_uri = "{token.uri()}"', f'private_key_file = "{key}"')
    path.write_text(in_file.replace(str(pair[1]), str(certificate)))
    bank.world.register_jwt_client(CLIENT, certificate.read_bytes() + pair[1].read_bytes())
    instance = await start(path, env=token.environment)
    token.take_away()
    path.write_text(moved)
    instance.process.send_signal(signal.SIGHUP)

    def logged(words: str) -> bool:
        return words in instance.stderr.read_text()

    await until(partial(logged, "configuration refused"), otherwise="the reload was not refused")
    assert logged("the token is not there")
    bank.world.tokens.revoke()
    assert await pays(instance)
    token.bring_back()
    instance.process.send_signal(signal.SIGHUP)
    await until(partial(logged, "is in force"), otherwise="the reload was refused")
    bank.world.tokens.revoke()
    assert await pays(instance)
    await until(lambda: len(signers(instance)) == 1, otherwise="the process of the old configuration lives on")
