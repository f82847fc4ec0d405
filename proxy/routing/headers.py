"""A caller's header line: what its name means to payproxy, computed once, and the line to relay (RFC 9110 5)."""

from typing import Final

from proxy.errors import BadRequest
from proxy.http1.syntax import CONTROLS, TOKEN, control_fault

# Never relayed: hop-by-hop (RFC 9110 7.6.1), headers reserved to proxies, headers that reroute inside other servers.
_REMOVED: Final = frozenset(
    b"""connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings proxy-authenticate
    host content-length authorization proxy-authorization x-payproxy-key expect forwarded via
    x-original-url x-rewrite-url x-http-method-override x-method-override x-http-method""".split()
)
# Servers read `_` and `.` in a name as `-`, or drop characters: only letters and digits are compared.
_PUNCTUATION: Final = b"!#$%&'*+-.^_`|~"
_SQUASHED: Final = frozenset(name.translate(None, _PUNCTUATION) for name in _REMOVED)
_SQUASHED_PREFIX: Final = b"xforwarded"
_READ: Final = frozenset(
    b"""host expect connection content-length transfer-encoding authorization proxy-authorization x-payproxy-key
    origin sec-fetch-site forwarded x-forwarded-for""".split()
)
# A header whose name contains one of these may hold a secret, so its line is not cached.
_SECRET: Final = (b"auth", b"cookie", b"key", b"password", b"secret", b"signature", b"token")
_SPACE: Final = 32
_MOST_LINES: Final = 1024
_LONGEST_LINE: Final = 128
_LONGEST_NAME: Final = 64


def alike(name: bytes) -> bytes:
    """Return *name* as read by servers that treat `_` and `.` as `-`."""
    return name.replace(b"_", b"-").replace(b".", b"-")


class Header:
    """The properties of a header name, computed once per spelling; *plain* is the name in lower case."""

    __slots__ = ("alike", "plain", "read", "removed", "secret")

    def __init__(self, name: bytes) -> None:
        if not TOKEN.fullmatch(name):
            raise BadRequest("A header name has a character that is not allowed (RFC 9110 5.1).")
        plain = name.lower()
        squashed = plain.translate(None, _PUNCTUATION)
        self.plain = plain
        self.removed = squashed in _SQUASHED or squashed.startswith(_SQUASHED_PREFIX)
        self.alike = alike(plain)
        self.read: bytes | None = plain if plain in _READ else None
        self.secret = any(word in plain for word in _SECRET)


class HeaderLine:
    """One header: *raw* is the line to relay; *header* the name's properties, None if it is invalid or not parsed."""

    __slots__ = ("header", "name", "raw", "size", "value")

    def __init__(self, name: bytes, value: bytes, header: Header | None, line: bytes = b"") -> None:
        self.name = name
        self.value = value
        self.header = header
        self.size = len(name) + len(value) + 4
        # In the usual form, "name: value", *line* is used as it is.
        usual = len(line) == len(name) + 2 + len(value) and line[len(name) + 1] == _SPACE
        self.raw = line if usual else b"%b: %b" % (name, value)

    def __repr__(self) -> str:
        return f"<HeaderLine {self.name!r}>"


class HeaderLines:
    """Parses header lines and caches the result: most of a caller's lines are the same in each of its requests.

    Callers choose the lines, so the cache is bounded; lines that may hold a secret are not cached.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, HeaderLine] = {}
        self._names: dict[bytes, Header] = {}

    def read(self, line: bytes) -> HeaderLine:
        """Return the parsed *line* (without line end); raises BadRequest if it has no colon, or a control character."""
        known = self._lines.get(line)
        return known if known is not None else self._read(line)

    def header(self, name: bytes) -> Header:
        """Return the properties of *name*; raises BadRequest if it has a character that is not allowed."""
        header = self._names.get(name)
        if header is None:
            header = Header(name)
            if len(self._names) < _MOST_LINES and len(name) <= _LONGEST_NAME:
                self._names[name] = header
        return header

    def _read(self, line: bytes) -> HeaderLine:
        if len(line.translate(None, CONTROLS)) != len(line):
            raise control_fault(line)
        end = line.find(b":")
        if end < 0:
            raise BadRequest("A header line has no colon (RFC 9112 5).")
        name, value = line[:end], line[end + 1 :].strip(b" \t")
        try:
            header = self.header(name)
        except BadRequest:  # `RawHead` reports it, after errors of higher priority
            return HeaderLine(name, value, None)
        found = HeaderLine(name, value, header, line)
        if len(line) <= _LONGEST_LINE and not header.secret:
            if len(self._lines) >= _MOST_LINES:
                self._lines.clear()
            self._lines[line] = found
        return found
