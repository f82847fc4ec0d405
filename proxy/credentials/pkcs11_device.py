"""A key in a PKCS#11 token, behind the process that loads the vendor's module."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from proxy.child_environment import PACKAGE_PATH
from proxy.clock import Clock
from proxy.credentials.child_process import ChildFailed, ChildProcess
from proxy.credentials.keys import MIN_KEY_BITS, KeyUnusable
from proxy.credentials.refused_pins import Refusal, RefusedPins, TurnNotGiven
from proxy.credentials.remote_key import KeyUnavailable, PinRefused
from proxy.credentials.trusted_file import refuse_replaceable
from proxy.secret import Secret
from proxy.settings.extras import installation
from proxy.settings.pkcs11_uri import Pkcs11Uri

KEY_BITS = 2048
# Hardware may take most of a minute to find two primes.
MAKE_SECONDS = 60.0

# SoftHSM takes the longest PINs, in bytes; cards take 8 to 16.
_LONGEST_PIN = 255
# How often at most the flags of a token that refused the PIN are looked at: each look starts a process.
LOOK_SECONDS = 5.0

# Ours may hold secrets of other credentials. The rest stays: vendors' modules find their configuration in variables.
_WITHHELD = ("PAYPROXY_", "JPM_", "OTEL_", "PYTHON")


class Pkcs11Device:
    """The key of *uri*; the process is started by the first call, and again after the module failed.

    *pin* is None for a token without login. *expected*, the certificate's public key, must be the key's; None if there
    is no certificate. Each call takes at most *seconds*. *pins* are the refused ones of this process: none of them is
    given to its token again, unless the token's flags show that somebody has logged in since.
    """

    def __init__(
        self,
        uri: Pkcs11Uri,
        *,
        pin: Secret | None,
        expected: RSAPublicKey | None,
        seconds: float,
        clock: Clock,
        pins: RefusedPins,
    ) -> None:
        self.extractable = False
        self._uri = uri
        self._pin = pin
        self._expected = expected
        self._seconds = seconds
        self._clock = clock
        self._process: ChildProcess | None = None
        self._public: RSAPublicKey | None = None
        self._pins = pins
        self._refused = ""  # why the PIN is not tried again,
        self._look_at = math.inf  # and when to look whether that has changed
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
        self._refuse_if_aborted()
        if self._refused and self._clock.monotonic() < self._look_at:
            # A new one each time: an exception that is raised again keeps every frame.
            raise PinRefused(self._refused, clears=self._look_at < math.inf)
        if find_spec("pkcs11") is None:
            raise KeyUnusable(f"keys in a token need python-pkcs11, which is not installed; {installation('pkcs11')}")
        uri = self._uri
        answer = self._logged_in({**request, "label": uri.label, "key_id": uri.key_id.hex()}, deadline)
        self._refused = ""
        self.extractable = answer["extractable"]
        public = RSAPublicNumbers(int(answer["exponent"], 16), int(answer["modulus"], 16)).public_key()
        if public.key_size < MIN_KEY_BITS:
            self._end()
            raise KeyUnusable(f"{uri}: the key has {public.key_size} bits, fewer than {MIN_KEY_BITS}; make a new one")
        return public

    def _logged_in(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Return the answer to *request* with the PIN, if no key of this process had this PIN refused."""
        pin = self._pin if self._pin is not None else Secret("")
        if doubt := _no_pin(pin):
            raise KeyUnusable(f"{self._uri}: the PIN {doubt}; write the PIN alone into its file")
        token = self._found(deadline)["token"]
        mark = self._pins.mark(token, pin)
        with self._turn(token, deadline):
            self._refuse_if_aborted()
            known = self._pins.refusal(mark)
            # A new process: what a module has known since it was loaded may be old.
            if known is not None and known.lasts(flagged=self._found(deadline)["flagged"]):
                self._end()
                raise self._pin_refused(known.what, known.fix, clears=known.flagged)
            answer = self._told({**request, "pin": pin.reveal()}, deadline)
            if answer.get("pin") == "refused":
                refusal = Refusal(what=answer["what"], fix=answer["fix"], flagged=self._flagged(deadline))
                self._pins.add(mark, refusal)
                raise self._pin_refused(refusal.what, refusal.fix, clears=refusal.flagged)
            self._raise_if_failed(answer)
            self._pins.forget(mark)
        return answer

    @contextlib.contextmanager
    def _turn(self, token: str, deadline: float) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            turn = self._pins.turn(token, given_up=lambda: self._aborted or self._clock.monotonic() > deadline)
            try:
                stack.enter_context(turn)
            except TurnNotGiven:
                self._end()
                self._refuse_if_aborted()
                raise KeyUnavailable(
                    f"{self._uri}: other keys in tokens were being opened; look at the tokens and the vendor's log"
                ) from None
            yield

    def _found(self, deadline: float) -> dict[str, Any]:
        """Start the process anew and have it find the token."""
        self._end()
        uri = self._uri
        with contextlib.suppress(OSError):  # the process says that it can't be read
            refuse_replaceable(Path(uri.module), danger="read the PIN and have anything signed")
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
            raise KeyUnavailable(f"{uri}: no process for the module ({error.strerror}); look at limits") from None
        return self._answer({"module": uri.module, "wanted": uri.token_attributes}, deadline)

    def _flagged(self, deadline: float) -> bool:
        """Return whether the token shows, also to a new process, that wrong PINs were given to it."""
        try:
            return bool(self._found(deadline)["flagged"])
        except KeyUnusable:
            return False
        finally:
            self._end()

    def _refuse_if_aborted(self) -> None:
        if self._aborted:
            raise KeyUnavailable(f"{self._uri}: the signature was given up; the keeper stops, or has another key now")

    def _pin_refused(self, what: str, fix: str, *, clears: bool) -> PinRefused:
        self._refused = f"{self._uri}: {what}; {fix}"
        self._look_at = self._clock.monotonic() + LOOK_SECONDS if clears else math.inf
        return PinRefused(self._refused, clears=clears)

    def _answer(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        answer = self._told(request, deadline)
        self._raise_if_failed(answer)
        return answer

    def _told(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
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
        return answer

    def _raise_if_failed(self, answer: dict[str, Any]) -> None:
        if "what" not in answer:
            return
        self._end()
        if answer["pin"]:
            raise self._pin_refused(answer["what"], answer["fix"], clears=True)
        text = f"{self._uri}: {answer['what']}; {answer['fix']}"
        raise KeyUnusable(text) if answer["lasting"] else KeyUnavailable(text)

    def __repr__(self) -> str:
        return f"<Pkcs11Device {self._uri}>"


def _no_pin(pin: Secret) -> str:
    """Return why *pin* can't be one, "" if it can: a token would count it as a wrong one."""
    text = pin.reveal()
    if len(pin.encoded) > _LONGEST_PIN:
        return f"has {len(text)} characters, which no PIN has"
    return "" if text.isprintable() else "has a control character or a line break"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    return kept | PACKAGE_PATH
