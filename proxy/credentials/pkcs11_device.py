"""A key in a PKCS#11 token, behind the process that loads the vendor's module."""

import contextlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from proxy.child_environment import PACKAGE_PATH
from proxy.clock import Clock
from proxy.credentials.child_process import ChildFailed, ChildProcess
from proxy.credentials.keys import MIN_KEY_BITS, KeyUnusable
from proxy.credentials.remote_key import KeyUnavailable, PinRefused
from proxy.credentials.trusted_file import refuse_replaceable
from proxy.secret import Secret
from proxy.settings.extras import installation
from proxy.settings.pkcs11_uri import Pkcs11Uri

KEY_BITS = 2048
# Hardware may take most of a minute to find two primes.
MAKE_SECONDS = 60.0

# Ours may hold secrets of other credentials. The rest stays: vendors' modules find their configuration in variables.
_WITHHELD = ("PAYPROXY_", "JPM_", "OTEL_", "PYTHON")


class Pkcs11Device:
    """The key of *uri*; the process is started by the first call, and again after the module failed.

    *pin* is None for a token without login. *expected*, the certificate's public key, must be the key's; None if there
    is no certificate. Each call takes at most *seconds*. A refused PIN is remembered and never tried again by this
    object.
    """

    def __init__(
        self, uri: Pkcs11Uri, *, pin: Secret | None, expected: RSAPublicKey | None, seconds: float, clock: Clock
    ) -> None:
        self.extractable = False
        self._uri = uri
        self._pin = pin
        self._expected = expected
        self._seconds = seconds
        self._clock = clock
        self._process: ChildProcess | None = None
        self._public: RSAPublicKey | None = None
        self._refused = ""  # why the PIN is not tried again
        self._aborted = False

    def public_key(self) -> RSAPublicKey:
        """Return the public half; raise KeyUnusable, or KeyUnavailable if the token may come back."""
        if self._public is None:
            self._open(self._deadline())
        assert self._public is not None  # noqa: S101 - opening sets it or raises
        return self._public

    def sign(self, signing_input: bytes) -> bytes:
        """Return the RS256 signature; if the token had been away, open it again, once."""
        return self._signed({"sign": signing_input.hex()})

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the RS256 signature of the input with the SHA-256 *digest*; otherwise as `sign`."""
        return self._signed({"sign": digest.hex(), "hashed": True})

    def _signed(self, request: dict[str, Any]) -> bytes:
        deadline = self._deadline()
        if self._process is not None:
            try:
                return self._signature(request, deadline)
            except KeyUnavailable:  # the session was lost, or the module died: a new process sees the token as it is
                self._end()
        self._open(deadline)
        return self._signature(request, deadline)

    def generate(self) -> RSAPublicKey:
        """Make the key in the token, where it stays, and return its public half; raise as `public_key` does.

        It may take MAKE_SECONDS, or the time of any other call if that is longer.
        """
        deadline = self._clock.monotonic() + max(self._seconds, MAKE_SECONDS)
        self._public = self._start({"bits": KEY_BITS}, deadline=deadline)
        return self._public

    def close(self) -> None:
        """End the process; the next call starts another."""
        self._end()
        self._aborted = False

    def abort(self) -> None:
        """Kill the process, and start no other before `close`."""
        self._aborted = True
        if (process := self._process) is not None:
            process.kill()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._seconds

    def _signature(self, request: dict[str, Any], deadline: float) -> bytes:
        return bytes.fromhex(self._answer(request, deadline)["signature"])

    def _open(self, deadline: float) -> None:
        public = self._start({}, deadline=deadline)
        if self._expected is not None and public.public_numbers() != self._expected.public_numbers():
            self._end()
            raise KeyUnusable(
                f"{self._uri}: the certificate belongs to another key; name the certificate of this key, or this "
                "certificate's key in private_key_uri"
            )
        self._public = public

    def _start(self, request: dict[str, Any], *, deadline: float) -> RSAPublicKey:
        if self._aborted:
            raise KeyUnavailable(f"{self._uri}: the signature was given up; the keeper stops, or has another key now")
        if self._refused:
            raise PinRefused(self._refused)  # a new one each time: an exception that is raised again keeps every frame
        if find_spec("pkcs11") is None:
            raise KeyUnusable(f"keys in a token need python-pkcs11, which is not installed; {installation('pkcs11')}")
        self._end()
        with contextlib.suppress(OSError):  # the process says that it can't be read
            refuse_replaceable(Path(self._uri.module), danger="read the PIN and have anything signed")
        self._process = ChildProcess(
            [sys.executable, "-P", "-m", "proxy.credentials.pkcs11_process"],
            environment=_environment(),
            clock=self._clock,
        )
        if self._aborted:
            self._process.kill()
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise KeyUnavailable(f"{self._uri}: no process for the module ({error.strerror}); look at limits") from None
        uri = self._uri
        named = {"module": uri.module, "token": uri.token, "serial": uri.serial, "label": uri.label}
        secret = {"pin": self._pin.reveal() if self._pin is not None else ""}
        answer = self._answer({**request, **named, "key_id": uri.key_id.hex(), **secret}, deadline)
        self.extractable = answer["extractable"]
        public = RSAPublicNumbers(int(answer["exponent"], 16), int(answer["modulus"], 16)).public_key()
        if public.key_size < MIN_KEY_BITS:
            self._end()
            raise KeyUnusable(f"{uri}: the key has {public.key_size} bits, fewer than {MIN_KEY_BITS}; make a new one")
        return public

    def _answer(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Return the process's answer; end the process if it has none, since a module that hangs can't be asked."""
        assert self._process is not None  # noqa: S101 - started by the caller
        try:
            answer: dict[str, Any] = json.loads(
                self._process.line(json.dumps(request).encode() + b"\n", deadline=deadline)
            )
        except ChildFailed as failed:
            self._end()
            raise KeyUnavailable(
                f"{self._uri}: the module {self._uri.module} {failed}; look at the token and the vendor's log"
            ) from None
        if "what" not in answer:
            return answer
        self._end()
        text = f"{self._uri}: {answer['what']}; {answer['fix']}"
        if not answer["lasting"]:
            raise KeyUnavailable(text)
        if "PIN" in answer["what"]:
            self._refused = text
            raise PinRefused(text)
        raise KeyUnusable(text)

    def __repr__(self) -> str:
        return f"<Pkcs11Device {self._uri}>"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    return kept | PACKAGE_PATH
