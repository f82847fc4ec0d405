"""A key that only a program can use: it gets what is to be signed on stdin and prints the signature in base64.

For an assertion that is the signing input; for a body it is the digest, since the keeper sees no bodies.
"""

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.clock import Clock
from proxy.credentials.child_process import ChildFailed, ChildProcess
from proxy.credentials.keys import KeyUnusable
from proxy.credentials.remote_key import KeyUnavailable
from proxy.credentials.trusted_file import refuse_replaceable

# None of them holds a secret; what else the program needs it has to know by itself.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


class CommandDevice:
    """Runs *command* (program and arguments, no shell) for each signature, at most *seconds* long.

    *public* is the key of the certificate.
    """

    def __init__(self, command: Sequence[str], *, public: RSAPublicKey, seconds: float, clock: Clock) -> None:
        self._command = tuple(command)
        self._public = public
        self._seconds = seconds
        self._clock = clock
        self._child: ChildProcess | None = None
        self._aborted = False

    def public_key(self) -> RSAPublicKey:
        """Return the certificate's public key."""
        return self._public

    def sign(self, signing_input: bytes) -> bytes:
        """Return what the program prints; raise KeyUnusable or KeyUnavailable."""
        program = self._command[0]
        check_program(Path(program))
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        deadline = self._clock.monotonic() + self._seconds
        child = self._child = ChildProcess(self._command, environment=environment, clock=self._clock)
        if self._aborted:
            child.kill()
        try:
            child.start()
            printed = child.rest(signing_input, deadline=deadline)
        except OSError as error:
            raise KeyUnusable(f"{program} can't be run ({error.strerror}); does it begin with #!/bin/sh?") from None
        except ChildFailed as failed:
            raise KeyUnavailable(f"signer_command {program} {failed}; run it by hand to see why") from None
        finally:
            child.end()
        return _signature(printed, program)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return what the program prints for the 32 bytes of a SHA-256 *digest*; raise as `sign`."""
        return self.sign(digest)

    def close(self) -> None:
        """Let the next call run the program again: none is left running."""
        self._aborted = False

    def abort(self) -> None:
        """End the program that is running or being started, and let none answer before `close`."""
        self._aborted = True
        if self._child is not None:
            self._child.kill()

    def __repr__(self) -> str:
        return f"<CommandDevice {self._command[0]}>"


def check_program(path: Path) -> None:
    """Raise KeyUnusable unless *path* is a program, or a link to one, that only we and root can change."""
    named = path
    if not path.is_absolute():
        raise KeyUnusable(f"{path}: is no absolute path; write the whole path of the program")
    try:
        path = path.resolve(strict=True)
        status = path.stat()
    except OSError as error:
        raise KeyUnusable(f"{path}: can't be read ({error.strerror}); correct the path of the program") from None
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        raise KeyUnusable(f"{path}: is no program that this user may run; correct the path, or `chmod 755 {path}`")
    refuse_replaceable(named, danger="have anything signed")


def _signature(printed: bytes, program: str) -> bytes:
    """Return the signature in the base64 or base64url that was *printed*, in one line or wrapped (RFC 2045 6.8)."""
    lines = printed.strip().translate(bytes.maketrans(b"-_", b"+/")).splitlines()
    if not lines:
        raise KeyUnavailable(f"signer_command {program} printed nothing; run it by hand to see why")
    text = b"".join(lines)
    try:
        if not _wrapped(lines):
            raise ValueError
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise KeyUnusable(
            f"signer_command {program} printed no base64; have it print the signature in base64 and nothing else"
        ) from None


def _wrapped(lines: Sequence[bytes]) -> bool:
    """Return whether *lines* are equally long, but for a shorter last one: other lines are a text for people."""
    return all(len(line) == len(lines[0]) for line in lines[:-1]) and len(lines[-1]) <= len(lines[0])
