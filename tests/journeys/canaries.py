"""Secrets that a test plants, and the search for them in what was put out, in every spelling that software makes."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

# A long secret is found by any of some pieces of it: a text may be cut off.
PIECE = 24
# Nothing of a JWT is ever put out, whoever made it: its header begins like this.
_JWT = re.compile(rb"eyJ[\w-]{8,}")
# Reserved space in journals, which would only be read slowly.
_NULS = re.compile(rb"\0{64,}")


@dataclass(frozen=True, slots=True)
class Canary:
    """A planted secret: *name* for messages, and its bytes."""

    name: str
    value: bytes

    @classmethod
    def of(cls, name: str, text: str) -> "Canary":
        """Return the canary of a text."""
        return cls(name, text.encode())

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """Return the whole if it is short, else its beginning, middle and end."""
        size, middle = len(self.value), (len(self.value) - PIECE) // 2
        if size <= PIECE:
            return (self.value,)
        return (self.value[:PIECE], self.value[middle : middle + PIECE], self.value[-PIECE:])


def spellings(piece: bytes) -> Mapping[str, frozenset[bytes]]:
    """Return by the spelling's name how *piece* is written, wherever it stands in what was encoded."""
    text = piece.decode("latin-1")
    escaped = quote(piece, safe=""), quote_plus(piece)
    json_text = piece.decode("utf-8", "surrogateescape")
    return {
        "plain": frozenset({piece}),
        "reversed": frozenset({piece[::-1]}),
        "hex": frozenset({piece.hex().encode(), piece.hex().upper().encode()}),
        "base64": frozenset(_base64(piece)),
        "base64url": frozenset(each.translate(bytes.maketrans(b"+/", b"-_")) for each in _base64(piece)),
        "URL-encoded": frozenset(
            each.encode() for one in escaped for each in (one, re.sub("%..", lambda found: found[0].lower(), one))
        ),
        "JSON-escaped": frozenset({json.dumps(json_text)[1:-1].encode(), json.dumps(text)[1:-1].encode()}),
        "HTML-escaped": frozenset({html.escape(text).encode("latin-1")}),
        "repr": frozenset({repr(piece)[2:-1].encode(), repr(text)[1:-1].encode()}),
    }


def _base64(piece: bytes) -> Iterator[bytes]:
    """Yield the characters that *piece* alone decides, for each of the three places in which it can begin."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + piece)
        whole = (before + len(piece)) // 3 * 4
        yield encoded[(before * 4 + 2) // 3 : whole]


class Search:
    """Looks for *canaries*, and for what looks like a JWT, in whatever it is given."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._needles = {
            needle: f"{canary.name}, {spelling}"
            for canary in canaries
            for piece in canary.pieces
            for spelling, needles in spellings(piece).items()
            for needle in needles
        }

    def found(self, data: bytes, *, jwt: bool = True) -> list[str]:
        """Return which canaries are in *data*, each with its spelling and some bytes before it."""
        data = _NULS.sub(b"\0", data)
        found = [
            f"{what}: ...{data[max(0, at - 120) : at]!r}"
            for needle, what in self._needles.items()
            if (at := data.find(needle)) >= 0
        ]
        if jwt and (looks_like := _JWT.search(data)):
            found.append(f"a JWT: {data[max(0, looks_like.start() - 120) : looks_like.start() + 20]!r}")
        return found

    def leaks(self, outputs: Mapping[str, bytes]) -> list[str]:
        """Return a line for each canary in each of *outputs*, by their names."""
        return [f"{name} has {what}" for name, data in outputs.items() for what in self.found(data)]
