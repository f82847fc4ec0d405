"""Where an answer's body ends (RFC 9112 6) and whether another answer may follow it (RFC 9112 9.3)."""

from collections.abc import Iterable

# Only names of these lengths can be Connection, Content-Length or Transfer-Encoding: spares lower() for the others.
_JUDGED_LENGTHS = frozenset({10, 14, 17})


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
    for name, value in headers:
        if len(name) not in _JUDGED_LENGTHS:
            continue
        match name.lower():
            case b"content-length":
                if chunked or length is not None:
                    raise FramingRefused("more than one framing header")
                length = _length(value)
            case b"transfer-encoding":
                if chunked or length is not None:
                    raise FramingRefused("more than one framing header")
                if http10 or value.lower() != b"chunked":
                    raise FramingRefused("Transfer-Encoding is not chunked")
                chunked = True
            case b"connection" if b"close" in value.lower():  # taking "closed" for it would only cost a reuse
                persistent = False
    return length, chunked, persistent


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or int(value) >= 1 << 63:
        raise FramingRefused("Content-Length is not a length")
    return int(value)
