"""A migration's state: its weight, who set it when and why, and its JSON form; no I/O."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from proxy.migration.former import FormerSetting, former_of

# Format of the file; a higher one comes from a later payproxy and may have another meaning.
FORMAT = 1
FULL = 100

_LONGEST_TEXT = 4096
_MOST_HELD = 10_000


class StateUnusable(ValueError):
    """The stored state can't be read; the message gives the reason and quotes nothing of it."""


class Phase(StrEnum):
    """Names for weights."""

    LEGACY = "legacy"
    RAMP = "ramp"
    MODERN = "modern"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationState:
    """One migration at one version: *weight* percent of callers are on modern; *when* is in epoch seconds.

    *steps* are the lower weights on the way here, ascending; a weight with a breach would not be among them. *held* are
    the callers that the guard keeps on legacy. *sides* names the two credentials: a later table with this name and
    other sides is another migration. *finished*: its table may be removed at any weight.
    """

    weight: int = 0
    version: int = 0
    who: str = ""
    when: float = 0.0
    reason: str = ""
    steps: tuple[int, ...] = ()
    held: tuple[str, ...] = ()
    sides: str = ""
    finished: bool = False

    @property
    def phase(self) -> Phase:
        """Return the name of the weight."""
        return Phase.LEGACY if self.weight == 0 else Phase.MODERN if self.weight == FULL else Phase.RAMP

    @property
    def identity(self) -> str:
        """Return a hash that identifies the state among replicas: two may have made a state of the same version."""
        return hashlib.sha256(json.dumps(_plain(self)).encode()).hexdigest()[:16]

    @property
    def last_good(self) -> int:
        """Return the target of a rollback: the last weight without a breach, 0 if there is none."""
        return self.steps[-1] if self.steps else 0

    def at(self, weight: int, *, who: str, when: float, reason: str) -> "MigrationState":
        """Return the next state, with *weight* set by *who*; steps at or above *weight* are removed."""
        steps = tuple(sorted({step for step in (*self.steps, self.weight) if 0 < step < weight}))
        return replace(self._next(who=who, when=when, reason=reason), weight=weight, steps=steps)

    def holding(self, caller: str, *, who: str, when: float, reason: str) -> "MigrationState":
        """Return the next state, with *caller* kept on legacy."""
        held = tuple(sorted({*self.held, caller}))
        return replace(self._next(who=who, when=when, reason=reason), held=held, finished=self.finished)

    def ended(self, *, who: str, when: float, reason: str) -> "MigrationState":
        """Return the next state, finished by *who*."""
        return replace(self._next(who=who, when=when, reason=reason), finished=True)

    def _next(self, *, who: str, when: float, reason: str) -> "MigrationState":
        return replace(self, version=self.version + 1, who=who, when=when, reason=reason, finished=False)


NEW = MigrationState()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the configuration: the fields that decide which requests it matches."""

    name: str
    path: str
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All migrations ever known here, by name; *unshared* are those with a state unknown to other replicas.

    *former* are their settings of the last 24 h. From the configuration last in force: *routes* are each migration's
    routes, *sides* its two credentials ("LEGACY to MODERN"), *rules* all rules, in order. Tables of *forced* migrations
    may be removed despite open retry pins.

    *replica* is this instance's name among replicas, as long as its data directory exists.
    """

    states: Mapping[str, MigrationState] = field(default_factory=dict)
    unshared: frozenset[str] = frozenset()
    former: Mapping[str, tuple[FormerSetting, ...]] = field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sides: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    forced: frozenset[str] = frozenset()
    replica: str = ""


def encode(document: Document) -> bytes:
    """Return *document* as indented JSON, readable for people too."""
    states = {name: _plain(state) for name, state in sorted(document.states.items())}
    value = {
        "format": FORMAT,
        "migrations": states,
        "unshared": sorted(document.unshared),
        # An earlier payproxy, possibly another replica, ignores the fields below.
        "former": {name: [one.row() for one in former] for name, former in sorted(document.former.items())},
        "routes": {name: list(routes) for name, routes in sorted(document.routes.items())},
        "sides": dict(sorted(document.sides.items())),
        "rules": [[rule.name, rule.path, *rule.methods] for rule in document.rules],
        "forced": sorted(document.forced),
        "replica": document.replica,
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes) -> Document:
    """Parse what `encode` wrote; raise StateUnusable."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise StateUnusable("it is not what payproxy writes: no JSON") from None
    if not isinstance(value, dict) or type(value.get("format")) is not int:
        raise StateUnusable("it is not what payproxy writes: it names no format")
    if value["format"] != FORMAT:
        raise StateUnusable(f"it has format {value['format']}, and this payproxy knows {FORMAT} only")
    states, unshared = value.get("migrations"), value.get("unshared", [])
    if not isinstance(states, dict) or not _are_texts(unshared):
        raise StateUnusable("it is not what payproxy writes: it has no migrations")
    former, routes, replica = value.get("former", {}), value.get("routes", {}), value.get("replica", "")
    try:
        return Document(
            states={name: _state(name, one) for name, one in states.items()},
            unshared=frozenset(unshared),
            former={name: former_of(rows) for name, rows in former.items()},
            routes={name: _texts(names) for name, names in routes.items()},
            sides={name: _texts([one])[0] for name, one in value.get("sides", {}).items()},
            rules=tuple(Rule(name, path, _texts(methods)) for name, path, *methods in value.get("rules", [])),
            forced=frozenset(_texts(value.get("forced", []))),
            replica=_texts([replica])[0],
        )
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, StateUnusable):
            raise
        raise StateUnusable("it is not what payproxy writes: its former settings can't be understood") from None


def _plain(state: MigrationState) -> dict[str, Any]:
    return {
        "weight": state.weight,
        "version": state.version,
        "who": state.who,
        "when": state.when,
        "reason": state.reason,
        "steps": list(state.steps),
        "held": list(state.held),
        "sides": state.sides,
        "finished": state.finished,
    }


def _state(name: str, value: Any) -> MigrationState:
    fault = StateUnusable(f"it is not what payproxy writes: migration {name[:64]!r} can't be understood")
    if not isinstance(value, dict) or value.keys() != _plain(NEW).keys():
        raise fault
    steps, held, when = value["steps"], value["held"], value["when"]
    sound = (
        _is_weight(value["weight"])
        and type(value["version"]) is int
        and value["version"] >= 0
        and type(when) in (int, float)
        and 0 <= when < 1e12
        and isinstance(steps, list)
        and all(_is_weight(step) for step in steps)
        and steps == sorted(set(steps))
        and _are_texts(held)
        and _are_texts([value["who"], value["reason"], value["sides"]])
        and type(value["finished"]) is bool
    )
    if not sound:
        raise fault
    return MigrationState(**(value | {"steps": tuple(steps), "held": tuple(held), "when": float(when)}))


def _is_weight(value: Any) -> bool:
    # type() and not isinstance(): True is an int too.
    return type(value) is int and 0 <= value <= FULL


def _texts(value: Any) -> tuple[str, ...]:
    if not _are_texts(value):
        raise ValueError("no texts")
    return tuple(value)


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_HELD
        and all(isinstance(one, str) and len(one) <= _LONGEST_TEXT for one in value)
    )
