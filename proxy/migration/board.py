"""What a worker knows of the migrations: weights, held callers and retry pins, as the keeper last said; no I/O."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.side import Side


@dataclass(frozen=True, slots=True)
class _State:
    weight: int
    version: int
    guard_pinned: frozenset[str]


_AT_FIRST: Final = _State(0, 0, frozenset())


class MigrationBoard:
    """The migrations' state; before the keeper has said anything every weight is 0 and nothing is *readable*.

    *readable*: retry pins are known and can be kept. *heard*: the keeper has told the state.
    """

    def __init__(self) -> None:
        self.readable = False
        self.heard = False
        self._states: dict[str, _State] = {}
        self._pins: dict[str, RetryPin] = {}  # the pin made last comes last

    def weight(self, name: str) -> int:
        """Return how many of a hundred go to the modern side of migration *name*."""
        return self._states.get(name, _AT_FIRST).weight

    def guard_pinned(self, name: str, caller: str) -> bool:
        """Return whether the guard holds *caller* on legacy."""
        return caller in self._states.get(name, _AT_FIRST).guard_pinned

    def moved(self, name: str) -> bool:
        """Return whether the weight of *name* was ever changed: only then can a try have gone to another side."""
        return self._states.get(name, _AT_FIRST).version > 0

    def retry_pin(self, digest: str, now: float) -> RetryPin | None:
        """Return where an earlier try of the request that *digest* names went; *now* in epoch seconds."""
        pin = self._pins.get(digest)
        if pin is not None and pin.until <= now:
            del self._pins[digest]
            return None
        return pin

    def hear(self, message: dict[str, Any]) -> None:
        """Take a message of the keeper: the migrations' states, or retry pins; others are not for this board."""
        if message["type"] == "migrations":
            self._states = {
                name: _State(state["weight"], state["version"], frozenset(state["guard_pinned"]))
                for name, state in message["states"].items()
            }
            self.readable = message["readable"]
            self.heard = True
        elif message["type"] == "pins":
            for digest, side, upstream, until in message["pins"]:
                self._pins.pop(digest, None)
                self._pins[digest] = RetryPin(Side(side), upstream, until)
            self._forget()

    def _forget(self) -> None:
        """Drop what had ended when the newest pin was made, so that a day's pins are all that is kept."""
        if not self._pins:
            return
        made = next(reversed(self._pins.values())).until - PIN_SECONDS
        ended = list(takewhile(lambda digest: self._pins[digest].until <= made, self._pins))
        for digest in ended:
            del self._pins[digest]

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {state.weight}" for name, state in sorted(self._states.items()))
        return f"<MigrationBoard {weights or 'of nothing'}, {len(self._pins)} pins>"
