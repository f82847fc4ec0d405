"""The files of the facade, of its clients and of the shared state."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.checks.caller_keys import assertion_key
from tests.checks.support import JWT, NOW, Identity, found, identity, write

DAY = 86400
FACADE = """
[facade]
paths = ["/adfs/token"]
signing_key_files = ["new.key", "old.key"]
[callers.old]
facade_client_id = "CC-1"
assertion_certificate_files = ["caller.crt"]
[state]
url_file = "redis.url"
encryption_key_files = ["state.key"]
"""
TEXT = JWT.replace('path = "/"', 'path = "/payment"') + FACADE


@pytest.fixture
def whole(folder: Path, other: Identity) -> Path:
    """A folder in which nothing is wrong."""
    for name in ("new.key", "old.key", "state.key"):
        write(folder / name, name[:1].encode() * 32 + b"\n")
    write(folder / "caller.crt", other.certificate_pem, mode=0o644)
    write(folder / "redis.url", b"rediss://:canary@redis.example\n")
    return folder


def test_good_files(whole: Path) -> None:
    """Private keys of 32 bytes, a URL and a certificate are nothing to complain about."""
    assert found(whole, TEXT) == []


def test_a_callers_certificate_may_be_expired(whole: Path, other: Identity) -> None:
    """Assertions are verified with its key alone: who owns it was settled when it was named here."""
    write(whole / "caller.crt", identity(key=other.key, ends=NOW - DAY).certificate_pem)
    assert found(whole, TEXT) == []


@pytest.mark.parametrize(
    ("name", "content", "mode", "key", "what"),
    [
        ("old.key", b"x" * 31, 0o600, "facade.signing_key_files", "it must hold 32"),
        ("old.key", b"x" * 31 + b"\n", 0o600, "facade.signing_key_files", "it must hold 32"),
        ("new.key", b"x" * 32, 0o640, "facade.signing_key_files", "group or others"),
        ("state.key", b"x" * 15, 0o600, "state.encryption_key_files", "it must hold 16"),
        ("state.key", b"x" * 32, 0o604, "state.encryption_key_files", "group or others"),
        ("redis.url", b"rediss://:canary@redis.example", 0o640, "state.url_file", "group or others"),
        ("redis.url", b"redis://:canary@redis.example", 0o600, "state.url_file", "in the clear"),
        ("caller.crt", b"canary", 0o600, "callers.old.assertion_certificate_files", "caller.crt"),
    ],
)
def test_one_file_that_cannot_be_used(  # noqa: PLR0917 - a table's columns
    whole: Path, name: str, content: bytes, mode: int, key: str, what: str
) -> None:
    """It is one finding that says which file of its list, and nothing of what is in it."""
    write(whole / name, content, mode=mode)
    [finding] = found(whole, TEXT)

    assert finding.key == key
    assert what in finding.what
    assert finding.line
    assert finding.fix
    assert "canary" not in str(finding)


@pytest.mark.parametrize("name", ["old.key", "state.key", "redis.url", "caller.crt"])
def test_a_fifo_is_refused_at_once(whole: Path, name: str) -> None:
    """`check` and `serve` would wait for ever for somebody who writes into it."""
    (whole / name).unlink()
    os.mkfifo(whole / name, 0o600)
    [finding] = found(whole, TEXT)
    assert "not a regular file" in finding.what


def test_a_sealing_key_of_16_bytes_is_enough(whole: Path) -> None:
    """`check` refuses what `serve` would, and no more."""
    write(whole / "state.key", b"x" * 16)
    assert found(whole, TEXT) == []


@pytest.mark.parametrize("name", ["old.key", "state.key", "redis.url", "caller.crt"])
def test_a_file_that_is_not_there(whole: Path, name: str) -> None:
    """It is named by where it was looked for, or by its key."""
    (whole / name).unlink()
    [finding] = found(whole, TEXT)
    assert "no such file" in finding.what


def test_keys_that_sign_no_assertion(whole: Path) -> None:
    """An elliptic curve and a short RSA key verify no RS256 assertion that is worth anything."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    for key, what in ((ec.generate_private_key(ec.SECP256R1()), "not RSA"), (short, "2048")):
        write(whole / "caller.crt", identity(key=key).certificate_pem)
        [finding] = found(whole, TEXT)
        assert finding.key == "callers.old.assertion_certificate_files"
        assert what in finding.what


def test_a_key_as_plain_numbers(whole: Path, other: Identity) -> None:
    """That is all that a worker gets of a certificate."""
    assert isinstance(other.key, rsa.RSAPrivateKey)
    numbers = other.key.public_key().public_numbers()
    assert assertion_key(whole / "caller.crt") == (f"{numbers.n:x}", 65537)
