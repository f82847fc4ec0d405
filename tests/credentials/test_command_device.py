"""A program that signs: openssl with a key of its own stands for a vault's client."""

import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.clock import SystemClock
from proxy.credentials.command_device import CommandDevice, check_program
from proxy.credentials.keys import KeyUnusable, load_certificate
from proxy.credentials.remote_key import KeyUnavailable
from proxy.credentials.signing_key import remote_key
from tests.credentials.support_keys import make_pair

PATIENT_SECONDS = 60.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and its certificate."""
    return make_pair(tmp_path_factory.mktemp("pair"))


def device(folder: Path, script: str, pair: tuple[Path, Path], *, seconds: float = PATIENT_SECONDS) -> CommandDevice:
    """Return a device that runs *script*."""
    program = folder / "sign"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    public = load_certificate(pair[1]).public_key()
    assert isinstance(public, RSAPublicKey)
    return CommandDevice([str(program), "an argument"], public=public, seconds=seconds, clock=SystemClock())


def test_a_digest_is_on_stdin(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Of a body the program gets the 32 bytes of its digest."""
    digest = hashlib.sha256(b"header.payload").digest()
    script = f"openssl pkeyutl -sign -inkey {pair[0]} -pkeyopt digest:sha256 | base64 -w0"
    key = remote_key(device(tmp_path, script, pair), name="sign")

    signature = key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
    key.public_key().verify(signature, b"header.payload", PKCS1v15(), SHA256())


def openssl_signs(pair: tuple[Path, Path]) -> str:
    """Return a script that signs by openssl."""
    return f"openssl dgst -sha256 -sign {pair[0]} -binary"


@pytest.mark.parametrize("encoding", ["base64 -w0", "base64 -w0 | tr -- +/ -_ | tr -d =", "base64 -w0; echo"])
def test_it_signs(tmp_path: Path, pair: tuple[Path, Path], encoding: str) -> None:
    """The signing input is on stdin; base64 or base64url is understood."""
    signer = device(tmp_path, f"{openssl_signs(pair)} | {encoding}", pair)
    key = remote_key(signer, name="sign")

    assert len(key.sign(b"header.claims", PKCS1v15(), SHA256())) == 256


def test_wrapped_base64_is_taken(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """`base64` without -w0 writes lines of 76 characters, openssl of 64 (RFC 2045 6.8, RFC 7468)."""
    for wrap in ("base64", "base64 -w64", "openssl base64", "base64 | sed 's/$/\\r/'"):
        assert len(device(tmp_path, f"{openssl_signs(pair)} | {wrap}", pair).sign(b"header.claims")) == 256


def test_another_keys_signature_is_not_used(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """It is verified with the certificate."""
    (tmp_path / "other").mkdir()
    script = f"{openssl_signs(make_pair(tmp_path / 'other'))} | base64 -w0"
    key = remote_key(device(tmp_path, script, pair), name="sign")
    with pytest.raises(KeyUnusable, match="not one of the expected key; name the certificate that belongs"):
        key.sign(b"header.claims", PKCS1v15(), SHA256())


def test_it_gets_nothing_of_our_environment(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret of another credential, and no shell between; its stderr goes nowhere."""
    monkeypatch.setenv("PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET", "s3cret")
    seen = tmp_path / "seen"
    signer = device(tmp_path, f'env > {seen}; echo "$*" >> {seen}; echo AAAA', pair)

    assert signer.sign(b"data") == b"\0\0\0"
    text = seen.read_text()
    assert "s3cret" not in text
    assert text.endswith("an argument\n")
    names = {line.partition("=")[0] for line in text.splitlines()[:-1]}
    assert names <= {"PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("true", "printed nothing; run it by hand"),
        ("exit 3", "ended with exit code 3; run it by hand"),
        ("kill -9 $$", "was ended by SIGKILL"),
        ("yes", "answered with more than 65536 bytes"),
        ("exec >&-; exec sleep 600", "did not end in time|did not answer in time"),
        ("sleep 600 & wait", "did not answer in time"),
    ],
    ids=["nothing", "exit code", "signal", "endless", "closed output", "a child of its own"],
)
def test_a_program_that_fails(tmp_path: Path, pair: tuple[Path, Path], script: str, says: str) -> None:
    """In time and in bounded memory, and nothing that it has started is left."""
    pid = tmp_path / "pid"
    signer = device(
        tmp_path, f"echo $$ > {pid}\n{script}", pair, seconds=PATIENT_SECONDS if "600" not in script else 1.0
    )
    with pytest.raises(KeyUnavailable, match=says):
        signer.sign(b"data")

    group = int(pid.read_text())
    end = SystemClock.monotonic() + PATIENT_SECONDS
    while living(group):
        assert SystemClock.monotonic() < end, "what it has started lives on"


def children() -> set[int]:
    """Return our children that live."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (task / "children").read_text().split()}
    return {child for child in found if living(child)}


@contextlib.contextmanager
def when_forked(call: Callable[[], object]) -> Iterator[None]:
    """Call *call* in the moment in which a program has been started and nobody knows its id yet."""

    def look(_: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ == "fork_exec":
            call()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


def test_a_program_that_is_being_started_is_ended_by_the_signal(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Ctrl-C: what its handler raises loses no program."""
    signer = device(tmp_path, "exec sleep 600", pair)
    before = children()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with when_forked(lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
            signer.sign(b"data")
    finally:
        signal.signal(signal.SIGINT, handler)

    assert children() == before


def test_a_program_that_is_being_started_is_given_up(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """By whoever waits for the thread in which it is; the next signature is made again."""
    signer = device(tmp_path, "exec sleep 600", pair)
    before = children()
    with when_forked(signer.abort), pytest.raises(KeyUnavailable, match="was ended by SIGKILL"):
        signer.sign(b"data")
    assert children() == before
    with pytest.raises(KeyUnavailable, match="was ended by SIGKILL"):  # given up before it was started
        signer.sign(b"data")

    signer.close()
    assert device(tmp_path, "echo AAAA", pair).sign(b"data") == signer.sign(b"data") == b"\0\0\0"


def living(group: int) -> list[str]:
    """Return the processes of the process group *group* that live; a killed one may wait for init."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            found += [process.name] if int(of) == group and state != "Z" else []
    return found


@pytest.mark.parametrize("text", ["Error: permission denied!", "permission denied", "denied\nby vault\n", "AA\nAAAA"])
def test_what_it_prints_is_no_base64(tmp_path: Path, pair: tuple[Path, Path], text: str) -> None:
    """An error text, for instance, also if its letters alone would be base64."""
    with pytest.raises(KeyUnusable, match="printed no base64; have it print the signature in base64 and nothing else"):
        device(tmp_path, f"echo '{text}'", pair).sign(b"data")


def test_whose_program_it_may_be(tmp_path: Path) -> None:
    """Ours or root's, in a directory in which nobody else can put another one."""
    program = tmp_path / "sign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    check_program(program)
    for mode in (0o775, 0o757):
        program.chmod(mode)
        with pytest.raises(KeyUnusable, match="others may change it, and have anything signed; `chmod go-w"):
            check_program(program)
    program.chmod(0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(KeyUnusable, match="others may write in"):
        check_program(program)
    tmp_path.chmod(0o700)
    with pytest.raises(KeyUnusable, match="is no absolute path"):
        check_program(Path("sign"))
    with pytest.raises(KeyUnusable, match="can't be read"):
        check_program(tmp_path / "missing")


def test_where_a_link_to_the_program_may_be(tmp_path: Path) -> None:
    """As the program itself: who may replace the link has another program run, between two signatures."""
    for name in ("programs", "links"):
        (tmp_path / name).mkdir(mode=0o700)
    program, link = tmp_path / "programs" / "sign", tmp_path / "links" / "sign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    link.symlink_to(program)
    check_program(link)
    for mode in (0o777, 0o1777):
        link.parent.chmod(mode)
        with pytest.raises(KeyUnusable, match=r"links/sign: others may write in .*links"):
            check_program(link)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_program_of_somebody_else(tmp_path: Path) -> None:
    """Who owns it can change it."""
    program = tmp_path / "sign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    os.chown(program, 12345, 0)
    with pytest.raises(KeyUnusable, match="belongs to user 12345, who could have anything signed"):
        check_program(program)
