"""Parses one response of the bank: bytes to a validated head and a framed body; without sockets and clock.

Heads are parsed by `response_head.py`, chunks by llhttp (from httptools, imported nowhere else in this package), which
rejects what a proxy must not relay: bare LF, spaces around sizes, framing headers among the trailers.
"""

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.upstream.response_head import BODILESS, HEAD_LIMIT, ResponseHead, check_unfinished, malformed, read_head

INFORMATIONAL_LIMIT: Final = 16  # 1xx heads before the response: one or two are usual (100, 103), a flood is a fault
FRAMING_LIMIT: Final = 65536  # bytes of chunk sizes, extensions and trailers in a row without a byte of body

# Memory of a small buffered piece beside its bytes: a bytes object's header and a list slot. Without it, a body of
# one-byte chunks would hold many times the memory that back-pressure allows.
_PIECE_OVERHEAD: Final = 64

_HEAD_END: Final = b"\r\n\r\n"
_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class ResponseParser:
    """Parses one response, given to `feed` in any split.

    *to_head* is true if the request was HEAD: then no body follows, whatever the framing headers say (RFC 9112 6.3).
    `buffered`: about the memory, in bytes, of pieces not yet taken. `surplus`: bytes came after the response.
    """

    def __init__(self, *, to_head: bool = False) -> None:
        self.head: ResponseHead | None = None
        self.bodiless = False
        self.complete = False
        self.surplus = False
        self.buffered = 0
        self._to_head = to_head
        self._seen = bytearray()  # of an incomplete head
        self._informational = 0
        self._remaining = 0
        self._pieces: list[bytes] = []
        self._llhttp: HttpResponseParser | None = None
        self._tail = b""
        self._without_body = 0

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the connection.

        Raises UpstreamBadResponse if they can't be a response (RFC 9112 4 to 7). Bytes after a complete response raise
        nothing: they set `surplus`, since the response itself is good and only the connection is not.
        """
        while self.head is None:
            data = self._feed_head(data)
            if not data:
                return
        if self.complete:
            self.surplus = True
        elif self._llhttp is not None:
            self._feed_chunks(self._llhttp, data)
        else:
            self._feed_counted(data)

    def take(self) -> bytes:
        """Return the part of the body that came since the last call, possibly b""."""
        pieces = self._pieces
        if not pieces:
            return b""
        self.buffered = 0
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_head(self, data: bytes) -> bytes:
        """Parse the part of *data* that belongs to the head; return the rest."""
        seen = self._seen
        known = len(seen)
        seen += data
        size = seen.find(_HEAD_END, max(known - 3, 0)) + 4  # 3: not found
        if size > HEAD_LIMIT or (size == 3 and len(seen) > HEAD_LIMIT):
            raise malformed("the head is too large")
        if size == 3:
            check_unfinished(bytes(seen[:9]), bytes(seen[max(known - 1, 0) :]))
            return b""
        head = read_head(bytes(seen[: size - 4]))
        self._seen = bytearray()
        if head.status < 200:
            self._skip_informational(head.status)
        else:
            self._begin(head)
        return data[size - known :]

    def _begin(self, head: ResponseHead) -> None:
        """Determine where the body ends."""
        self.head = head
        length = head.content_length
        self.bodiless = self._to_head or head.status in BODILESS
        if self.bodiless or length == 0:
            self.complete = True
        elif length is not None:
            self._remaining = length
        elif head.chunked:
            self._llhttp = HttpResponseParser(self)
            self._llhttp.feed_data(_CHUNKED_HEAD)
        else:
            raise malformed("the body's end can't be told: neither Content-Length nor chunked")

    def _skip_informational(self, status: int) -> None:
        """Skip a 1xx head (RFC 9110 15.2); 101 would start another protocol, which was not requested."""
        if status == 101:
            raise malformed("the status is not in 200 to 599")
        self._informational += 1
        if self._informational > INFORMATIONAL_LIMIT:
            raise malformed("too many informational answers")

    def _feed_counted(self, data: bytes) -> None:
        """Add *data* to a body of known length."""
        size = len(data)
        if size > self._remaining:
            data = data[: self._remaining]
            size = self._remaining
            self.surplus = True
        self._remaining -= size
        self._pieces.append(data)
        self.buffered += size + _PIECE_OVERHEAD
        self.complete = not self._remaining

    def _feed_chunks(self, llhttp: HttpResponseParser, data: bytes) -> None:
        """Parse *data* of a chunked body; trailers are dropped."""
        already = len(self._pieces)
        try:
            llhttp.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:  # the latter: a 101 follows the last chunk
            if not self.complete:
                # llhttp's texts are constants: they name the rule, never the bytes.
                raise malformed(str(error)) from None
            self.surplus = True
        self._tail = (self._tail + data)[-5:] if len(data) < 5 else data[-5:]
        if self.complete:
            # llhttp skips line ends after the last chunk. The body itself ends with CRLF CRLF after another byte.
            if self._tail[-4:] != _HEAD_END or self._tail[:1] in {b"\r", b"\n"}:
                self.surplus = True
            self._llhttp = None  # it references our methods: else every response would be a cycle for the collector
        if len(self._pieces) > already:
            self._without_body = 0
            self._merge(already)
        else:
            self._without_body += len(data)
            if self._without_body > FRAMING_LIMIT and not self.complete:
                raise malformed("chunk extensions or trailers without end")

    def _merge(self, already: int) -> None:
        """Join the pieces that one call of `feed` added."""
        fresh = self._pieces[already:]
        if len(fresh) > 1:
            fresh = [b"".join(fresh)]
            self._pieces[already:] = fresh
        self.buffered += len(fresh[0]) + _PIECE_OVERHEAD

    # llhttp's callbacks.

    def on_message_begin(self) -> None:
        """Note that another response starts after the last chunk."""
        if self.complete:
            self.surplus = True

    def on_body(self, piece: bytes) -> None:
        """Add a piece of a chunked body."""
        if not self.complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of a chunked body."""
        self.complete = True
