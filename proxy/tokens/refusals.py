"""What a refused token means: that it is void for all requests, or that this one is refused with any token; pure.

A bank may answer 401 although the token is valid: because of a missing entitlement, or of the caller's own `token`
header. Such a request is told by its refusal source (`source_of`): a token that was minted for it was refused again.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

# From the first refusal of a fresh token until a mint may be tried again; doubling.
_FIRST_SECONDS, _LAST_SECONDS = 2.0, 900.0
# A source without a refusal for this long after its time was over begins anew.
_FORGOTTEN_SECONDS = 900.0
# A token that was minted for a source is fresh for this long.
_FRESH_SECONDS = 60.0
_MAX_SOURCES = 1000
MAX_SOURCE_CHARACTERS = 200
_MAX_NAME_CHARACTERS = 32
_MAX_DOUBLINGS = 10
# So many sources of a caller, each refused with a token that was minted for it, make its further ones doubtful.
_ERRING = 3


def source_of(route: str, caller: str, method: str, path: str) -> str:
    """Return the refusal source of a request: requests that differ in an identifier in their path have the same.

    A segment of *path* with a digit, or with more than 32 characters, counts as an identifier.
    """
    segments = ("*" if _is_identifier(segment) else segment for segment in path.split("/"))
    return f"{route} {caller} {method} {'/'.join(segments)}"[:MAX_SOURCE_CHARACTERS]


def caller_of(source: str) -> str:
    """Return the caller in the refusal source *source*, which `source_of` made; neither name has a blank."""
    _, _, rest = source.partition(" ")
    return rest.partition(" ")[0] if rest else source


def _is_identifier(segment: str) -> bool:
    return len(segment) > _MAX_NAME_CHARACTERS or any(character.isdigit() for character in segment)


class Verdict(Enum):
    """What follows from a refusal: a mint; another look once it is known whether the token still works; nothing."""

    MINT = "mint"
    ASK = "ask"
    KEEP = "keep"


def verdict(
    *, suspect: bool, erring: bool, credit: bool, accepted: bool, last_resort: bool, works: bool | None
) -> Verdict:
    """Return what follows from a refusal of the token in use.

    *suspect*: the source was refused with a fresh token shortly before; *erring*: several others of its caller were,
    and the request has no fallback.
    *credit*: the route's rate limit allows a mint.
    *accepted*: the bank has accepted this token before. *last_resort*: the rate limit for mints without *credit* or for
    a *suspect* allows one. *works*: whether the bank has accepted the token since this refusal, None if nobody asked.
    """
    if credit and not suspect:
        if erring and works is None:
            return Verdict.ASK
        return Verdict.KEEP if erring and works else Verdict.MINT
    if not (accepted and last_resort):
        return Verdict.KEEP
    if works is None:
        return Verdict.ASK
    return Verdict.KEEP if works else Verdict.MINT


@dataclass(slots=True)
class Doubt:
    """The token with serial *mint* was refused to *source*, at monotonic *since*, and its successor is on its way.

    *works*: the bank has accepted it in a request that was sent after that.
    """

    mint: int
    source: str
    since: float
    works: bool = False

    def withdraws(self, source: str, *, suspect: bool) -> bool:
        """Return whether a refusal to *source* shows that the token is void for all: two refused it, none was served.

        A *suspect* source shows nothing.
        """
        return source != self.source and not suspect and not self.works


@dataclass(slots=True)
class _Suspicion:
    until: float
    refusals: int
    mint: int


class Suspects:
    """The sources that were refused with fresh tokens, the 1,000 with the latest refusals; *now* is monotonic.

    And their callers: one that asks for ever new paths, of which the bank refuses each, would have a token minted for
    each of them.
    """

    def __init__(self) -> None:
        self._sources: OrderedDict[str, _Suspicion] = OrderedDict()
        self._callers: OrderedDict[str, _Suspicion] = OrderedDict()
        self._minted: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def holds(self, source: str, *, now: float) -> bool:
        """Return whether a refusal to *source* is held to be one of the request."""
        found = self._sources.get(source)
        return found is not None and now < found.until

    def errs(self, source: str, *, now: float) -> bool:
        """Return whether fresh tokens were refused to several other sources of the same caller."""
        found = self._callers.get(caller_of(source))
        return found is not None and found.refusals >= _ERRING and now < found.until

    def refused_fresh(self, source: str, mint: int, *, now: float) -> None:
        """The token *mint*, minted after a refusal, was refused to *source* too: 2 s, doubling to 15 min.

        It counts once, however many requests of *source* were in flight.
        """
        if source not in self._sources:
            _suspect(self._callers, caller_of(source), mint, now=now)
        _suspect(self._sources, source, mint, now=now)

    def minted_for(self, source: str, refused: int, *, now: float) -> None:
        """A token is minted because the one with the serial *refused* was refused to *source*."""
        self._minted.pop(source, None)
        self._minted[source] = (refused, now)
        if len(self._minted) > _MAX_SOURCES:
            self._minted.popitem(last=False)

    def is_fresh(self, source: str, mint: int, *, now: float) -> bool:
        """Return whether the token *mint* followed a refusal to *source* within the last minute.

        What is not sent a second time, as a body that is not held or an inquiry, shows in this way only that it is
        refused with a fresh token too.
        """
        refused, since = self._minted.get(source, (mint, now))
        return mint > refused and now < since + _FRESH_SECONDS

    def cleared(self, source: str) -> None:
        """A fresh token was accepted from *source*: the one before was void."""
        self._sources.pop(source, None)
        self._callers.pop(caller_of(source), None)
        self._minted.pop(source, None)

    def clear(self) -> None:
        """Something has changed outside: begin anew."""
        self._sources.clear()
        self._callers.clear()
        self._minted.clear()

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        return f"<Suspects {len(self)} sources>"


def _suspect(suspicions: OrderedDict[str, _Suspicion], name: str, mint: int, *, now: float) -> None:
    """Begin the suspicion of *name*, or prolong it if the token *mint* is newer than the one that it is about."""
    found = suspicions.pop(name, None)
    if found is not None and mint <= found.mint:
        suspicions[name] = found
        return
    forgotten = found is None or now >= found.until + _FORGOTTEN_SECONDS
    refusals = 1 if found is None or forgotten else found.refusals + 1
    seconds = min(_FIRST_SECONDS * 2.0 ** min(refusals - 1, _MAX_DOUBLINGS), _LAST_SECONDS)
    suspicions[name] = _Suspicion(now + seconds, refusals, mint)
    while len(suspicions) > _MAX_SOURCES:
        suspicions.popitem(last=False)
