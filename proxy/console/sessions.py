"""Who is signed in: sessions and one-time links, in memory only, so that a restart signs everybody out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.text import base64url

# A working day, and a lunch break.
SESSION_SECONDS = 8 * 3600.0
IDLE_SECONDS = 3600.0
LINK_SECONDS = 300.0
# Enough for the operators of an instance; the oldest makes room.
_MOST_SESSIONS = 100
_MOST_LINKS = 16
_TOKEN_BYTES = 32

Value = TypeVar("Value")


class Role(StrEnum):
    """What a session may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks at a page: *name* as in records, *proof* is how it was shown; *csrf* is "" without a session."""

    name: str = ""
    role: Role = Role.VIEWER
    proof: str = ""
    csrf: str = ""

    @property
    def may_act(self) -> bool:
        """Return whether actions are for this visitor."""
        return self.role is Role.OPERATOR and bool(self.csrf)


class Sessions:
    """The sessions by their token, of which only the SHA-256 is kept."""

    def __init__(self, *, clock: Clock, entropy: Entropy) -> None:
        self._entropy = entropy
        self._visitors: _Expiring[Visitor] = _Expiring(_MOST_SESSIONS, SESSION_SECONDS, IDLE_SECONDS, clock.monotonic)

    def open(self, *, name: str, role: Role, proof: str) -> str:
        """Return the token of a new session."""
        token, csrf = _token(self._entropy), _token(self._entropy)
        self._visitors.put(token, Visitor(name=name, role=role, proof=proof, csrf=csrf))
        return token

    def find(self, token: str, *, used: bool = True) -> Visitor | None:
        """Return whose session *token* is, None if there is none (any more); not *used*: it stays as idle as it was."""
        return self._visitors.get(token, used=used)

    def close(self, token: str) -> None:
        """End the session of *token*."""
        self._visitors.pop(token)

    def close_of(self, ended: Callable[[str], bool]) -> None:
        """End the sessions of those names for which *ended* returns True."""
        self._visitors.drop(lambda visitor: ended(visitor.name))


class LoginLinks:
    """Links that sign in once, made by who may open admin.sock."""

    def __init__(self, *, clock: Clock, entropy: Entropy) -> None:
        self._entropy = entropy
        self._made: _Expiring[tuple[str, Role]] = _Expiring(_MOST_LINKS, LINK_SECONDS, LINK_SECONDS, clock.monotonic)

    def make(self, name: str, role: Role) -> str:
        """Return the token of a new link for *name*, valid for LINK_SECONDS."""
        token = _token(self._entropy)
        self._made.put(token, (name, role))
        return token

    def take(self, token: str) -> tuple[str, Role] | None:
        """Return for whom the link *token* is, and forget it; None if it was used, has expired or never was."""
        return self._made.pop(token)

    def forget_of(self, ended: Callable[[str], bool]) -> None:
        """Forget the links for those names for which *ended* returns True."""
        self._made.drop(lambda made: ended(made[0]))


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    opened: float
    used: float


class _Expiring(Generic[Value]):
    """At most *most* values by token, each for *seconds*, and for *idle* seconds since it was used."""

    def __init__(self, most: int, seconds: float, idle: float, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._idle = idle
        self._monotonic = monotonic
        self._entries: dict[bytes, _Entry[Value]] = {}

    def put(self, token: str, value: Value) -> None:
        now = self._forget_old()
        if len(self._entries) >= self._most:
            del self._entries[next(iter(self._entries))]
        self._entries[_key(token)] = _Entry(value, now, now)

    def get(self, token: str, *, used: bool) -> Value | None:
        now = self._forget_old()
        entry = self._entries.get(_key(token))
        if entry is None:
            return None
        if used:
            entry.used = now
        return entry.value

    def pop(self, token: str) -> Value | None:
        self._forget_old()
        entry = self._entries.pop(_key(token), None)
        return None if entry is None else entry.value

    def drop(self, wanted: Callable[[Value], bool]) -> None:
        self._entries = {key: one for key, one in self._entries.items() if not wanted(one.value)}

    def _forget_old(self) -> float:
        now = self._monotonic()
        for key, one in list(self._entries.items()):
            if now - one.opened >= self._seconds or now - one.used >= self._idle:
                del self._entries[key]
        return now


def _token(entropy: Entropy) -> str:
    return base64url(entropy.token_bytes(_TOKEN_BYTES)).decode()


def _key(token: str) -> bytes:
    # Looked up by its hash, a token can't be guessed byte by byte from how long that takes.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
