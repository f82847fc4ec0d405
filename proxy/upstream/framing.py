"""Where an answer's body ends (RFC 9112 6) and whether another answer may follow it (RFC 9112 9.3)."""

from collections.abc import Iterable

_LENGTH, _CODING, _CONNECTION = b"content-length", b"transfer-encoding", b"connection"
_JUDGED = frozenset({_LENGTH, _CODING, _CONNECTION})


class _Kinds(dict[bytes, bytes | None]):
    """Spellings seen before: which of the judged headers they name, if one. Bounded, since the bank chooses them."""

    def __missing__(self, name: bytes) -> bytes | None:
        plain = name.lower()
        kind = plain if plain in _JUDGED else None
        if len(self) < 1024 and len(name) <= 64:
            self[name] = kind
        return kind


_KINDS = _Kinds()


class FramingRefused(ValueError):
    """The framing headers contradict each other or can't be understood; the text names the rule."""


def framing_of(headers: Iterable[tuple[bytes, bytes]], *, http10: bool) -> tuple[int | None, bool, bool]:
    """Return content length, whether the body is chunked, and whether the connection stays open after it.

    *headers* have stripped values. At most one framing header is accepted, in its one exact form: FramingRefused is
    raised also where RFC 9112 6.3 lets a client recover, since two readers that recover differently are how one answer
    becomes two.
    """
    length: int | None = None
    chunked = False
    persistent = not http10
    kinds = _KINDS
    for name, value in headers:
        kind = kinds[name]
        if kind is None:
            continue
        if kind == _CONNECTION:
            if b"close" in value.lower():  # taking "closed" for it would only cost a reuse
                persistent = False
        elif chunked or length is not None:
            raise FramingRefused("more than one framing header")
        elif kind == _LENGTH:
            length = _length(value)
        elif http10 or value.lower() != b"chunked":
            raise FramingRefused("Transfer-Encoding is not chunked")
        else:
            chunked = True
    return length, chunked, persistent


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or (length := int(value)) >= 1 << 63:
        raise FramingRefused("Content-Length is not a length")
    return length
