"""A worker's state of the migrations: settings and retry pins from the keeper, and its own keys; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.migration.former import FormerSetting, Keyed, may_differ, side_of
from proxy.migration.in_flight import LINGER_SECONDS, KeyInFlight, KeysInFlight
from proxy.migration.pin import PASSING, PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_table import PinTable
from proxy.migration.side import Policy, Side
from proxy.migration.side_settings import SideSettings

# Of the pin table's 1024 shards, how many are cleaned per pins message: all within a minute or two of failures, none if
# nothing fails.
_SHARDS_A_MESSAGE: Final = 8
# Longer than the claiming worker waits: if the keeper sends nothing more by then, the claim was not used.
_CLAIM_SECONDS: Final = 8.0
# A pin that ends sooner may end before a request that it decided does.
_SHORT_SECONDS: Final = 3600.0
# A new keeper reads the journals later than this after the old one ended: what was sent by then is in there.
_ORPHAN_SECONDS: Final = 0.5


_CHANGES: Final = "the side changes at this moment"
_FALLS_BACK: Final = "an earlier try is falling back to legacy at this moment"
# Doubts that the keeper's next messages nearly always resolve.
SOON_OVER: Final = frozenset({_CHANGES, _FALLS_BACK})


@dataclass(frozen=True, slots=True)
class _Settings:
    """A migration's settings: *former* ones of the last 24 h, *unsettled* those that may still be used to send.

    *others* are policies, other than this worker's, that another worker or replica uses or is about to use.
    """

    weight: int
    guard_pinned: frozenset[str]
    former: tuple[FormerSetting, ...] = ()
    unsettled: tuple[FormerSetting, ...] = ()
    others: tuple[Policy, ...] = ()


_AT_FIRST: Final = _Settings(0, frozenset())


class SideCache:
    """The migrations' state; before the keeper's first message every weight is 0 and *readable* is false.

    *readable*: retry pins are known and can be kept. *received*: the keeper has sent the state. *policies* are those of
    this worker's tables, by migration.
    """

    def __init__(self, policies: Mapping[str, Policy] | None = None) -> None:
        self.readable = False
        self.received = False
        self._policies: dict[str, Policy] = dict(policies or {})
        self._states: dict[str, _Settings] = {}
        self._pins = PinTable()
        self._keys = KeysInFlight()
        self._claims: dict[str, float] = {}  # digests claimed by another worker, and until when
        self._orphan_at = 0.0
        self.silences = 0  # how often other replicas may have gone on without this one
        self._contact_until = 0.0

    def weight(self, name: str) -> int:
        """Return the percentage that goes to the modern side of migration *name*."""
        return self._states.get(name, _AT_FIRST).weight

    def guard_pinned(self, name: str, caller: str) -> bool:
        """Return whether the guard holds *caller* on legacy."""
        return caller in self._states.get(name, _AT_FIRST).guard_pinned

    def earlier_try(self, digest: str, now: float) -> tuple[Side, str] | None:
        """Return side and upstream of an earlier attempt of the request *digest*, None if there was none.

        That is an attempt in flight in this worker, or one with a pin; *now* in epoch seconds.
        """
        key = self._key(digest, now)
        if key is not None:
            return key.side, key.upstream
        pin = self._pins.get(digest, now)
        return None if pin is None else (pin.side, pin.upstream)

    def doubt(self, policy: Policy, keyed: Keyed, *, side: Side, now: float) -> str:
        """Return why an earlier attempt of *keyed*, without a pin, may not have gone to *side*; "" if it must have."""
        claimed = self.claim_doubt(keyed.digest, now)
        if claimed:
            return claimed
        state = self._states.get(policy.name, _AT_FIRST)
        if self.readable and not state.unsettled and not state.others:
            return ""
        if not self.received:
            return "the keeper has not told the state yet"
        held = keyed.caller in state.guard_pinned
        former = state.unsettled if self.readable else state.former
        if former and may_differ(former, policy, keyed, side=side, guard_pinned=held, now=now):
            return _CHANGES if self.readable else "its retry pins can't be read"
        for other in state.others:
            if other.sides != policy.sides or side_of(other, keyed, weight=state.weight, guard_pinned=held) is not side:
                return "its table is being replaced, or another replica has another one"
        return ""

    def claim_doubt(self, digest: str, now: float) -> str:
        """Return why the side of the request *digest* is changing at this moment, "" if it is not."""
        key = self._keys.get(digest)
        if (key is not None and key.claiming) or (self._claims and self._claims.get(digest, 0.0) > now):
            return _FALLS_BACK
        return ""

    def enter(self, keyed: Keyed, policy: Policy, *, side: Side, upstream: str, now: float) -> KeyInFlight:
        """Register a request with the key *keyed* that is about to be sent to *upstream* on *side*; return the key."""
        return self._keys.enter(keyed, policy, side=side, upstream=upstream, now=now)

    def too_short(self, key: KeyInFlight, now: float) -> bool:
        """Return whether the side of *key* has a pin that may end while a request with it is in flight.

        After that end, a further retry that another process receives would go by the weight.
        """
        if not len(self._pins):
            return False
        pin = self._pins.get(key.keyed.digest, now)
        return pin is not None and (pin.reason in PASSING or pin.until < now + _SHORT_SECONDS)

    def leave(self, key: KeyInFlight, *, sent: bool, uncertain: bool, now: float) -> RetryPin | None:
        """Register the end of a request of *key*; return a shorter pin to replace one that is no longer needed."""
        self._keys.leave(key, sent=sent, uncertain=uncertain, now=now)
        if key.count:
            return None
        if key.uncertain:
            pin = self._pins.get(key.keyed.digest, now)
            if pin is not None and pin.reason not in PASSING:  # the pin arrived before the request ended
                self._keys.pinned((key.keyed.digest,))
        elif key.passing is not None:
            return RetryPin(key.side, key.upstream, now + LINGER_SECONDS, key.policy.name, key.passing)
        return None

    def begin_claim(self, key: KeyInFlight) -> bool:
        """Start moving *key* to the other side; False if another request with it is in flight or ended uncertain."""
        if key.count != 1 or key.claiming or key.sent or key.uncertain:
            return False
        key.claiming = True
        return True

    def end_claim(self, key: KeyInFlight, *, side: Side, upstream: str) -> None:
        """Send *key* to *upstream* on *side* from now on; all other processes have agreed."""
        key.claiming = False
        key.passing = Reason.FALLBACK
        key.side = side
        key.upstream = upstream

    def answer_claim(self, digest: str, pin: RetryPin, now: float) -> bool:
        """Return whether another worker may send the request *digest* where *pin* says; if so, it is not sent here."""
        key = self._key(digest, now)
        # The keeper compares the pins.
        if key is not None and (key.claiming or (key.side, key.upstream) != (pin.side, pin.upstream)):
            return False
        self._claims[digest] = now + _CLAIM_SECONDS
        return True

    def drop_claim(self, digest: str) -> None:
        """Drop a claim that failed."""
        self._claims.pop(digest, None)

    def orphaned(self, now: float) -> None:
        """Record, at monotonic *now*, that the keeper is gone: retry pins can't be kept any more."""
        self.readable = False
        self._orphan_at = now

    def is_too_late(self, now: float) -> bool:
        """Return whether the keeper is gone too long, at monotonic *now*, to send a request with a retry key."""
        return self._orphan_at > 0.0 and now > self._orphan_at + _ORPHAN_SECONDS

    def set_contact(self, until: float, now: float) -> None:
        """Record, at monotonic *now*, until when no other replica goes on without this one; 0.0: the states say it."""
        self.silences += 0.0 < self._contact_until < now
        self._contact_until = until

    def is_out_of_contact(self, keyed: Keyed, now: float) -> bool:
        """Return whether other replicas may have gone on without this one since the side of *keyed* was chosen.

        That is, this replica was frozen; *now* in monotonic seconds.
        """
        return keyed.silences != self.silences or 0.0 < self._contact_until < now

    def set_states(self, states: Mapping[str, SideSettings], *, readable: bool) -> None:
        """Replace the settings of all migrations by *states*."""
        self._states = {name: self._settings(name, state) for name, state in states.items()}
        self.readable = readable and not self._orphan_at
        self.received = True

    def add_pins(self, pins: Mapping[str, RetryPin], now: float) -> None:
        """Store *pins*, which the keeper has, at epoch second *now*."""
        for digest, pin in pins.items():
            self._pins.put(digest, pin)
            self._claims.pop(digest, None)
        self._keys.pinned(digest for digest, pin in pins.items() if pin.reason not in PASSING)
        self._pins.forget_ended(now, shards=_SHARDS_A_MESSAGE)

    def shortened(self, pins: Mapping[str, RetryPin], now: float) -> list[tuple[str, RetryPin]]:
        """Return longer pins for those of *pins* that end soon while a request with their key is here.

        Another process has ended its request with the same key, and does not know of the one here.
        """
        found = []
        for digest, pin in pins.items():
            key = self._keys.get(digest)
            if key is None or not key.count or pin.until >= now + _SHORT_SECONDS:
                continue
            if (key.side, key.upstream) == (pin.side, pin.upstream):
                found.append((digest, RetryPin(key.side, key.upstream, now + PIN_SECONDS, key.policy.name)))
        return found

    def moving(self, now: float) -> dict[str, RetryPin]:
        """Return pins for the keys in flight here that would go to another side if they arrived now."""
        until = now + PIN_SECONDS
        pins: dict[str, RetryPin] = {}
        # Many keys belong to few callers: each combination is decided once, at 3 us.
        sides: dict[tuple[str, int, str, str, str | None], Side] = {}
        for key in self._keys:
            # A claimed key has sent nothing to its side, and gets its pin by the claim.
            if key.claiming or not _holds(key, now):
                continue
            keyed, state = key.keyed, self._states.get(key.policy.name, _AT_FIRST)
            held = keyed.caller in state.guard_pinned
            moves = False
            for number, policy in enumerate((key.policy, *state.others)):
                alike = (policy.name, number, keyed.caller, keyed.method, keyed.header)
                side = sides.get(alike)
                if side is None:
                    side = sides[alike] = side_of(policy, keyed, weight=state.weight, guard_pinned=held)
                moves |= side is not key.side or policy.sides != key.policy.sides
            if moves:
                key.passing = key.passing or Reason.IN_FLIGHT
                # A key whose caller has its answer needs the pin only as long as that answer may be in transit.
                ends = until if key.count or key.uncertain else key.until
                reason = Reason.UNKNOWN if key.uncertain else Reason.IN_FLIGHT
                pin = RetryPin(key.side, key.upstream, ends, key.policy.name, reason)
                known = self._pins.get(keyed.digest, now)
                if known is None or (known.side, known.upstream) != (pin.side, pin.upstream):
                    pins[keyed.digest] = pin
        return pins

    def _key(self, digest: str, now: float) -> KeyInFlight | None:
        key = self._keys.get(digest)
        return key if key is not None and _holds(key, now) else None

    def _settings(self, name: str, state: SideSettings) -> _Settings:
        own = self._policies.get(name)
        return _Settings(
            state.weight,
            frozenset(state.guard_pinned),
            state.former,
            tuple(one for one in state.former if not one.settled),
            tuple(one for one in state.policies if one != own) if own is not None else (),
        )

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {state.weight}" for name, state in sorted(self._states.items()))
        return f"<SideCache {weights or 'of nothing'}, {len(self._pins)} pins>"


def _holds(key: KeyInFlight, now: float) -> bool:
    return bool(key.count) or key.uncertain or key.until > now
