"""`payproxy keys` with a key that is made in SoftHSM2 and stays there."""

from pathlib import Path

import pytest

from proxy.credentials.csr import EXAMPLE_SUBJECT
from tests.cli.support import run
from tests.credentials.support_keys import openssl
from tests.support.softhsm import PIN, Token, labels, needs_softhsm

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
    assert "has a key with that label already; choose another label" in other.stderr
    assert labels(token) == ["oauth"]
    assert not (tmp_path / "elsewhere").exists()


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
