"""The PINs that tokens refused: this process gives none of them to its token again, whichever key wants it.

A token counts wrong PINs for itself, not for a key, and locks after a few. So the memory is of the whole process
(`REFUSED_PINS`), and the process that reads the configuration gets it and returns it (decision 0044).
"""

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from proxy.entropy import Entropy, SystemEntropy
from proxy.secret import Secret

_KEY_BYTES = 32
# How soon a waiting thread notices that it should give up.
_WAIT_SECONDS = 0.1
# In place of a token's name: all of them.
ALL_TOKENS = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a token refused a PIN: *what* is wrong and the *fix*.

    *flagged*: since then the token shows a flag for wrong PINs (CKF_USER_PIN_COUNT_LOW, FINAL_TRY or LOCKED), so that
    without one somebody has logged in, or set the PIN.
    """

    what: str
    fix: str
    flagged: bool

    def lasts(self, *, flagged: bool) -> bool:
        """Return whether the PIN must not be tried, if the token shows such a flag now or not (*flagged*)."""
        return flagged or not self.flagged


class TurnNotGiven(Exception):
    """A thread has given up waiting for others that log in to the same token."""


class RefusedPins:
    """What was refused, by a digest of token and PIN with a random key: nothing that is kept shows a PIN."""

    def __init__(self, *, entropy: Entropy) -> None:
        self._key = entropy.token_bytes(_KEY_BYTES)
        self._refusals: dict[str, Refusal] = {}
        self._busy: set[str] = set()
        self._freed = threading.Condition()

    def mark(self, token: str, pin: Secret) -> str:
        """Return the digest under which a refusal of *pin* by *token* is kept."""
        return hmac.new(self._key, f"{token}\0{pin.reveal()}".encode(), hashlib.sha256).hexdigest()

    def refusal(self, mark: str) -> Refusal | None:
        """Return why that PIN was refused, None if it was not."""
        return self._refusals.get(mark)

    def add(self, mark: str, refusal: Refusal) -> None:
        """Remember that the PIN was refused."""
        self._refusals[mark] = refusal

    def forget(self, mark: str) -> None:
        """Forget it: the token took the PIN."""
        self._refusals.pop(mark, None)

    @contextmanager
    def turn(self, token: str, *, given_up: Callable[[], bool]) -> Iterator[None]:
        """Have one thread at a time log in to *token*, so that the others know how that ended.

        With ALL_TOKENS nobody else logs in to any. Raises TurnNotGiven if *given_up* returns true meanwhile.
        """
        with self._freed:
            while self._taken(token):
                if given_up():
                    raise TurnNotGiven
                self._freed.wait(_WAIT_SECONDS)
            self._busy.add(token)
        try:
            yield
        finally:
            with self._freed:
                self._busy.discard(token)
                self._freed.notify_all()

    def _taken(self, token: str) -> bool:
        return bool(self._busy) if token == ALL_TOKENS else not self._busy.isdisjoint({token, ALL_TOKENS})

    def state(self) -> dict[str, Any]:
        """Return what is known, for another process of this instance; `take` takes it there, and what comes back."""
        # dict() first: other threads add
        known = {mark: asdict(refusal) for mark, refusal in dict(self._refusals).items()}
        return {"key": self._key.hex(), "refusals": known}

    def take(self, state: dict[str, Any]) -> None:
        """Know what *state* says, besides what is known here; its key is this one's from now on."""
        self._key = bytes.fromhex(state["key"])
        self._refusals |= {mark: Refusal(**refusal) for mark, refusal in state["refusals"].items()}

    def __repr__(self) -> str:
        return f"<RefusedPins {len(self._refusals)}>"


REFUSED_PINS = RefusedPins(entropy=SystemEntropy())
"""Of this process: the token's count of wrong PINs is one, however many keys, credentials and files there are."""
