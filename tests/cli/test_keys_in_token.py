"""`payproxy keys` with a key that is made in SoftHSM2 and stays there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from proxy.cli import remote_keys
from proxy.credentials import pkcs11_device
from proxy.credentials.csr import EXAMPLE_SUBJECT
from tests.cli.serving import command, site
from tests.cli.support import PAYPROXY, environment, run
from tests.credentials.support_keys import make_pair, openssl
from tests.support.clock import settle
from tests.support.softhsm import PIN, Token, faulty_module, labels, needs_softhsm
from tests.upstream.support import eventually

pytestmark = needs_softhsm


@pytest.fixture
def token(tmp_path: Path) -> Token:
    """An empty token."""
    (tmp_path / "hsm").mkdir()
    return Token(tmp_path / "hsm")


def test_a_key_is_made_in_the_token_with_its_certificate(tmp_path: Path, token: Token) -> None:
    """There is no key file; openssl verifies what the token has signed, and `check` finds nothing."""
    made = ("keys", "new", "--pkcs11", token.uri(), "--out", "made", "--subject", EXAMPLE_SUBJECT)
    done = run(*made, cwd=tmp_path, env=token.environment)

    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["oauth.crt"]
    assert labels(token) == ["oauth"]
    certificate = tmp_path / "made" / "oauth.crt"
    assert "OK" in openssl("verify", "-CAfile", certificate, certificate)
    assert f'private_key_uri = "{token.uri()}"' in done.stderr
    inspected = run("keys", "inspect", token.uri(), certificate, cwd=tmp_path, env=token.environment)
    assert inspected.returncode == 0, inspected.stderr
    assert "private key (RSA 2048)" in inspected.stdout
    assert "They belong together." in inspected.stderr
    assert PIN not in done.stdout + done.stderr + inspected.stdout + inspected.stderr

    again = run(*made, cwd=tmp_path, env=token.environment)
    assert again.returncode == 1
    assert "exists already and is not overwritten" in again.stderr
    other = run(*made[:5], "elsewhere", *made[6:], cwd=tmp_path, env=token.environment)
    assert other.returncode == 1
    assert "already; choose another label, or use that key with `payproxy keys new --existing`" in other.stderr
    assert not (tmp_path / "elsewhere").exists()
    existing = run(*made, "--csr", "--existing", cwd=tmp_path, env=token.environment)
    assert existing.returncode == 0, existing.stderr
    belong = run("keys", "inspect", token.uri(), tmp_path / "made" / "oauth.csr", cwd=tmp_path, env=token.environment)
    assert "They belong together." in belong.stderr
    assert labels(token) == ["oauth"]


def test_a_request_is_signed_by_the_key_in_the_token(tmp_path: Path, token: Token) -> None:
    """`--csr` works alike; the PIN may come from a file of its own."""
    done = run(
        *("keys", "new", "--csr", "--pkcs11", token.uri(pin=False), "--pin-file", token.pin_file),
        *("--out", ".", "--subject", EXAMPLE_SUBJECT),
        cwd=tmp_path,
        env=token.environment,
    )

    assert done.returncode == 0, done.stderr
    text = openssl("req", "-in", tmp_path / "oauth.csr", "-noout", "-verify", "-subject", "-nameopt", "RFC2253")
    assert "CN=payproxy-client-testing" in text
    assert not (tmp_path / "oauth.key").exists()


@pytest.mark.parametrize(("out", "says"), [("file/made", "Not a directory"), ("/proc/made", "No such file")])
def test_no_key_is_made_for_files_that_cant_be_written(tmp_path: Path, token: Token, out: str, says: str) -> None:
    """It would stay in the token, and the next try would find its label taken."""
    (tmp_path / "file").touch()
    made = ("keys", "new", "--pkcs11", token.uri(), "--out", out, "--subject", EXAMPLE_SUBJECT)
    done = run(*made, cwd=tmp_path, env=token.environment)

    assert done.returncode == 1
    assert f"can't be written ({says}" in done.stderr
    assert labels(token) == []


def test_a_key_that_was_made_before_a_failure_is_said_to_be_there(tmp_path: Path, token: Token) -> None:
    """The module makes the key and can't sign: `--existing` goes on, which is said, and no folder is left."""
    made = ("keys", "new", "--out", "made", "--subject", EXAMPLE_SUBJECT)
    token.fail("sign 30")
    uri = token.uri(module=faulty_module(tmp_path))
    done = run(*made, "--pkcs11", uri, cwd=tmp_path, env=token.environment)

    assert done.returncode == 1
    assert "The key was made and stays in the token: the same command with --existing goes on with it" in done.stderr
    assert not (tmp_path / "made").exists()
    token.faults.unlink()
    again = run(*made, "--existing", "--pkcs11", uri, cwd=tmp_path, env=token.environment)
    assert again.returncode == 0, again.stderr
    assert labels(token) == ["oauth"]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pkcs11:token=t", "the URI names no module; add ?module-path=/"),
        ("pkcs11:token=t;object=o?module-path=/m.so&pin-value=4711", "holds a PIN (pin-value)"),
        ("pkcs11:token=t;object=o?module-path=/m.so", "the module of module-path can't be read; install the vendor's"),
    ],
)
def test_a_uri_that_is_of_no_use(tmp_path: Path, uri: str, says: str) -> None:
    """What is wrong is said, and no PIN."""
    done = run("keys", "new", "--pkcs11", uri, "--out", ".", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path)

    assert done.returncode == 1
    assert says in done.stderr
    assert "4711" not in done.stderr
    assert not (tmp_path / "oauth.crt").exists()


def test_a_key_that_is_not_there(tmp_path: Path, token: Token) -> None:
    """`inspect` says so, as for a file."""
    done = run("keys", "inspect", token.uri("missing"), cwd=tmp_path, env=token.environment)

    assert done.returncode == 1
    assert "no such private key" in done.stderr


@pytest.mark.parametrize("csr", [True, False])
def test_a_certificate_of_a_key_behind_a_program(tmp_path: Path, *, csr: bool) -> None:
    """A vault signs its own certificate or request; openssl verifies it."""
    key, _ = make_pair(tmp_path, name="vault")
    public = tmp_path / "public.pem"
    public.write_text(openssl("pkey", "-in", key, "-pubout"))
    program = tmp_path / "sign"
    program.write_text(f"#!/bin/sh\nopenssl dgst -sha256 -sign {key} -binary | base64 -w0\n")
    program.chmod(0o755)
    arguments = ("keys", "new", "--signer-command", program, "--public-key", public, "--out", "made")
    done = run(*arguments, "--subject", EXAMPLE_SUBJECT, *(["--csr"] if csr else []), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    [made] = (tmp_path / "made").iterdir()
    if csr:
        openssl("req", "-in", made, "-noout", "-verify")
        assert "`payproxy keys inspect CERTIFICATE`" in done.stderr
    else:
        assert "OK" in openssl("verify", "-CAfile", made, made)


def test_a_module_that_hangs_is_given_up(tmp_path: Path, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the time of a mint; where a key is made it may take longer, which is said before."""
    monkeypatch.setattr(remote_keys, "_SECONDS", 1.0)
    monkeypatch.setattr(pkcs11_device, "MAKE_SECONDS", 1.0)
    token.fail("initialize hang")
    uri = token.uri(module=faulty_module(tmp_path))
    inspected = run("keys", "inspect", uri, cwd=tmp_path, env=token.environment)
    made = run(
        *("keys", "new", "--pkcs11", uri, "--out", "made", "--subject", EXAMPLE_SUBJECT),
        cwd=tmp_path,
        env=token.environment,
    )

    assert "did not answer in time" in inspected.stderr
    assert "made in the token, which may take up to" in made.stderr
    assert "did not answer in time" in made.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_a_module_that_hangs_ends_with_the_command(tmp_path: Path, token: Token, ending: signal.Signals) -> None:
    """However that is ended, and while the module holds Python's lock: nothing stays behind that holds the token."""
    os.mkfifo(token.faults)
    arguments = ("keys", "inspect", token.uri(module=faulty_module(tmp_path)))
    process = await started_command(*arguments, env=token.environment)
    await eventually(lambda: written(token.faults, b"load hang\n"))
    [child] = children(process.pid)
    process.send_signal(ending)
    await process.communicate()

    await eventually(lambda: not alive(child))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_a_program_that_hangs_ends_with_the_command(tmp_path: Path, ending: signal.Signals) -> None:
    """And what it has started."""
    key, _ = make_pair(tmp_path, name="vault")
    public = tmp_path / "public.pem"
    public.write_text(openssl("pkey", "-in", key, "-pubout"))
    program, noted = tmp_path / "sign", tmp_path / "noted"
    # Once it has read what is to be signed, the command waits for it.
    program.write_text(f"#!/bin/sh\ncat > /dev/null; sleep 600 & echo $! > {noted}.new; mv {noted}.new {noted}; wait\n")
    program.chmod(0o755)
    arguments = ("keys", "new", "--signer-command", program, "--public-key", public, "--out", tmp_path / "made")
    process = await started_command(*arguments, "--subject", EXAMPLE_SUBJECT, env={})
    await eventually(noted.exists)
    process.send_signal(ending)
    await process.communicate()

    assert process.returncode == 128 + ending
    await eventually(lambda: not alive(int(noted.read_text())))


@pytest.mark.thorough
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", ["token payments", "assertion login", "check --online", "serve"])
async def test_the_program_of_a_configuration_ends_with_the_command(
    tmp_path: Path, words: str, ending: signal.Signals
) -> None:
    """Whichever asks it for a signature."""
    noted = tmp_path / "noted"
    async with site(tmp_path) as place:
        program = tmp_path / "sign"
        program.write_text(f"#!/bin/sh\necho $$ > {noted}.new; mv {noted}.new {noted}; exec sleep 600\n")
        program.chmod(0o755)
        text = place.config.read_text()
        place.config.write_text(text.replace('private_key_file = "oauth.key"', f'signer_command = ["{program}"]'))
        process = await started_command(*words.split(), "--config", place.config, env={})
        await eventually(noted.exists)
        process.send_signal(ending)
        await process.communicate()

        assert not alive(int(noted.read_text()))
        assert process.returncode == (0 if words == "serve" else 128 + ending)


async def started_command(*arguments: str | Path, env: dict[str, str]) -> asyncio.subprocess.Process:
    """Start `payproxy` as a process."""
    return await asyncio.create_subprocess_exec(
        PAYPROXY, *arguments, env=environment(**env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


def written(pipe: Path, data: bytes) -> bool:
    """Write *data* to the named *pipe* if somebody reads it, and return whether that is so."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(descriptor, data)
    os.close(descriptor)
    return True


def children(process: int) -> list[int]:
    """Return the children of *process*."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    """Return whether *process* runs; what waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--existing"], "--existing belongs to --pkcs11"),
        (["--signer-command", "/bin/true"], "--signer-command and --public-key go together"),
        (["--signer-command", "sign", "--public-key", "public.pem"], "is no absolute path"),
        (["--signer-command", "/bin/true", "--public-key", "missing"], "no such file"),
        (["--signer-command", "/bin/true", "--public-key", __file__], "is no public key; write it as PEM"),
        (["--signer-command", "/bin/true", "--public-key", "x", "--pkcs11", "x"], "not both"),
    ],
)
def test_a_program_that_is_of_no_use(tmp_path: Path, arguments: list[str], says: str) -> None:
    """What is missing is said."""
    done = run("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT, *arguments, cwd=tmp_path)

    assert done.returncode in {1, 2}
    assert says in done.stderr


async def test_an_assertion_is_signed_by_the_token(
    tmp_path: Path, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`payproxy assertion`, `check --online` and `token` use the key where it is; without the token they say so."""
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    async with site(tmp_path) as place:
        token.import_key(tmp_path / "oauth.key", label="oauth")
        text = place.config.read_text()
        place.config.write_text(text.replace('private_key_file = "oauth.key"', f'private_key_uri = "{token.uri()}"'))
        printed = await command("assertion", "login", "--config", place.config)
        assert printed.exit_code == 0, printed.stderr
        assert printed.stdout.count(".") == 2
        checked = await command("check", "--online", "--config", place.config)
        assert (checked.exit_code, checked.stdout.strip()) == (0, "no findings"), checked.stdout
        assert (await command("token", "payments", "--config", place.config)).exit_code == 0
        token.take_away()
        for arguments, code in ((("assertion", "login"), 1), (("token", "payments"), 69), (("check", "--online"), 1)):
            failed = await command(*arguments, "--config", place.config)
            assert "the token is not there" in " ".join((failed.stdout + failed.stderr).split())
            assert failed.exit_code == code


async def test_check_online_tries_a_wrong_pin_once(
    tmp_path: Path, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens lock after three."""
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    async with site(tmp_path) as place:
        token.pin_file.write_text("0000")
        uri = token.uri(module=faulty_module(tmp_path))
        text = place.config.read_text()
        place.config.write_text(text.replace('private_key_file = "oauth.key"', f'private_key_uri = "{uri}"'))
        checked = await command("check", "--online", "--config", place.config)

        assert checked.exit_code == 1
        assert "the PIN is wrong" in " ".join(checked.stdout.split())
        assert "login: nothing was sent, its key can't be used" in checked.stderr
        assert token.logins == 1
        assert place.bank.world.mint_count() == 0
        await settle()  # the bank sees that the probes have closed their connections
