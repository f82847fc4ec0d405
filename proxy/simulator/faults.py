"""Faults on demand: which request gets one, and which faults there are.

A fault is aimed by path prefix, by the client that the request's credential belongs to, by method and by headers that
the request has, and may be limited in number. Of each group (see `GROUPS`) a request meets at most one fault, the one
added first, so two faults with `times=1` are met by two requests, one after the other. Faults of the groups "break" and
"delay" come after the request was executed (the payment is made, the token minted, the answer is lost or late); those
of "instead" and "early" replace its execution. A fault that acts before the body was read can't know a client that only
the body names.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    """What goes wrong."""

    DOWN = "down"  # closed before the body is read, nothing executed
    RESET_BEFORE = "reset_before"  # TCP reset before the body is read, nothing executed
    UNREAD = "unread"  # the body is not read for `seconds`
    REFUSE = "refuse"  # token or client refused in the endpoint's words; there with `error`, `description`, `status`
    STATUS = "status"  # `status` in the API family's shape, or with `body`; 503 has Retry-After: 600 unless set
    HTML = "html"  # 200 and a page, as a corporate proxy gives
    EMPTY = "empty"  # 200 and nothing
    BROKEN_JSON = "broken_json"  # 200 and JSON that breaks off
    ENDLESS = "endless"  # 200 and a body without end
    REDIRECT = "redirect"  # 302 to `location`
    SLOW = "slow"  # executed at once, answered after `seconds`
    RESET = "reset"  # executed, then TCP reset instead of an answer
    CLOSE = "close"  # executed, then closed without an answer
    TRUNCATED = "truncated"  # executed, then half of the answer's body
    STALLED = "stalled"  # executed, then half of the answer's body and silence for `seconds`
    HANG_UP = "hang_up"  # answered, then closed without Connection: close
    LIFETIME = "lifetime"  # the token is valid for `seconds`, as expires_in says
    FIELDS = "fields"  # the token answer has these `fields` and lacks those in `without`
    REPEAT = "repeat"  # the client's last token is returned again, valid or not


GROUPS = {
    FaultKind.DOWN: "early",
    FaultKind.RESET_BEFORE: "early",
    FaultKind.UNREAD: "reading",
    FaultKind.REFUSE: "instead",
    FaultKind.STATUS: "instead",
    FaultKind.HTML: "instead",
    FaultKind.EMPTY: "instead",
    FaultKind.BROKEN_JSON: "instead",
    FaultKind.ENDLESS: "instead",
    FaultKind.REDIRECT: "instead",
    FaultKind.SLOW: "delay",
    FaultKind.RESET: "break",
    FaultKind.CLOSE: "break",
    FaultKind.TRUNCATED: "break",
    FaultKind.STALLED: "break",
    FaultKind.HANG_UP: "break",
    FaultKind.LIFETIME: "lifetime",
    FaultKind.FIELDS: "fields",
    FaultKind.REPEAT: "repeat",
}
BEFORE_THE_BODY = ("early", "reading")
AFTER_THE_BODY = ("instead", "delay", "break")
Header = Callable[[str], str | None]
# A day: longer than anything that waits.
MOST_SECONDS = 86400.0
WHEN_MINTING = ("lifetime", "fields", "repeat")
_JSON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "times": (int, type(None)),
    "status": int,
    "headers": dict,
    "having": dict,
    "body": (str, type(None)),
    "seconds": (int, float),
    "fields": dict,
    "without": (list, tuple),
    "early": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: where (*path* prefix, *client* id, *method*; "" is any), how often (*times*, None is always), what.

    *having* are headers that the request must have, with these values.
    *early* makes REFUSE and STATUS answer before the body is read. *seconds* is for UNREAD, SLOW, STALLED and LIFETIME.
    """

    kind: FaultKind
    path: str = ""
    client: str = ""
    method: str = ""
    having: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    error: str = ""
    description: str = ""
    seconds: float = 0.0
    location: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    early: bool = False

    @property
    def group(self) -> str:
        """Return the group of which a request meets at most one fault."""
        return "early" if self.early and GROUPS[self.kind] == "instead" else GROUPS[self.kind]

    @classmethod
    def of(cls, value: Any) -> "Fault":
        """Return the fault that JSON *value* describes. Raises ValueError or TypeError saying what is wrong."""
        if not isinstance(value, dict):
            raise TypeError("a fault is a JSON object")
        unknown = value.keys() - {each.name for each in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        wrong = [name for name, given in value.items() if not isinstance(given, _JSON_TYPES.get(name, str))]
        if wrong:
            raise ValueError(f"the wrong type: {', '.join(sorted(wrong))}")
        _check_numbers(value)
        known = {**value, "kind": FaultKind(value.get("kind", ""))}
        if "without" in known:
            known["without"] = tuple(known["without"])
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """Return the fault as JSON takes it."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


def _check_numbers(value: Mapping[str, Any]) -> None:
    """Raise ValueError, whose text begins with the name, for a number that no answer can have; status 0 is none."""
    status, times, seconds = value.get("status", 0), value.get("times"), value.get("seconds", 0)
    if isinstance(status, bool) or (status and not 200 <= status <= 599):
        raise ValueError("status: it is not a number from 200 to 599")
    if isinstance(times, bool) or (times is not None and times < 1):
        raise ValueError("times: it is not a number from 1 on")
    if isinstance(seconds, bool) or not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f"seconds: it is not a number from 0 to {MOST_SECONDS:.0f}")


class _Armed:
    """A fault and how often it may still happen."""

    __slots__ = ("fault", "left", "met")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.times
        self.met = 0

    def hits(self, path: str, client: str, method: str, header: Header) -> bool:
        fault = self.fault
        return (
            self.left != 0
            and path.startswith(fault.path)
            and fault.client in ("", client)
            and fault.method in ("", method)
            and all(header(name) == value for name, value in fault.having.items())
        )


def _no_header(_: str) -> None:
    """Return None, as a request without any header does."""


class Faults:
    """The faults that are set, in the order in which they were."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Set *fault*."""
        self._armed.append(_Armed(fault))

    def set(self, kind: str, path: str = "", **how: Any) -> None:
        """Set a fault of *kind* (a `FaultKind` or its value) on *path*; the rest by keyword as in `Fault`."""
        self.add(Fault(kind=FaultKind(kind), path=path, **how))

    def remove(self, faults: Iterable[Fault]) -> None:
        """Take *faults* away, those that were set with `add`."""
        gone = {id(fault) for fault in faults}
        self._armed = [armed for armed in self._armed if id(armed.fault) not in gone]

    def clear(self) -> None:
        """Take all faults away."""
        self._armed.clear()

    def take(
        self, groups: tuple[str, ...], *, path: str, client: str, method: str, header: Header = _no_header
    ) -> dict[str, Fault]:
        """Return what the request meets, at most one fault of each of *groups*, by group; each counts as happened.

        *header* returns the request's value of a header, or None.
        """
        met: dict[str, Fault] = {}
        for armed in self._armed:
            group = armed.fault.group
            if group in groups and group not in met and armed.hits(path, client, method, header):
                met[group] = armed.fault
                armed.met += 1
                if armed.left is not None:
                    armed.left -= 1
        return met

    def as_list(self) -> list[dict[str, Any]]:
        """Return all faults as JSON takes them, with how often each was met and may still be (None: always)."""
        return [{**armed.fault.as_dict(), "met": armed.met, "left": armed.left} for armed in self._armed]

    def __bool__(self) -> bool:
        return bool(self._armed)

    def __repr__(self) -> str:
        return f"<Faults [{sum(armed.left != 0 for armed in self._armed)} armed, {len(self._armed)} set]>"
