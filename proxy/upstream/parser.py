"""One answer of the bank, from bytes to a checked head and a framed body; without sockets and without a clock.

llhttp (by httptools, imported nowhere else in this room) reads the grammar: header syntax, chunks, CRLF. What it lets
pass and a proxy must not (RTSP and ICE versions, status 99 and 999, any byte in the reason, two Transfer-Encodings,
a body up to the close of the connection) is refused here.
"""

from typing import NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.errors import UpstreamBadResponse
from proxy.upstream.framing import FramingRefused, framing_of

HEAD_LIMIT = 65536  # bytes of one head: what servers commonly cap request heads at, and far above any real answer
HEADERS_LIMIT = 200  # aiohttp stops at 128 and nginx has no such limit; the bank sends about 20
INFORMATIONAL_LIMIT = 16  # 1xx heads before the answer: one or two are usual (100, 103), a flood is a fault
FRAMING_LIMIT = 65536  # bytes of chunk sizes, extensions and trailers in a row without a byte of body

# What a small buffered piece costs beside its bytes: a bytes object's header and a list slot. Without it, a body of
# one-byte chunks would hold many times the memory that back-pressure allows.
_PIECE_OVERHEAD = 64

_HEAD_END = b"\r\n\r\n"
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_ZERO = ord("0")
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})


class AnswerParser:
    """Takes bytes by `feed` in any split and tells what they mean; one parser serves one answer.

    *head* is true when the request was HEAD: then no body follows whatever the framing headers say (RFC 9112 6.3).
    `buffered` is about the memory, in bytes, that pieces not yet taken hold.
    """

    __slots__ = (
        "_headers",
        "_headers_ended",
        "_informational",
        "_llhttp",
        "_pieces",
        "_remaining",
        "_request_was_head",
        "_seen",
        "_tail",
        "_without_body",
        "bodiless",
        "buffered",
        "chunked",
        "complete",
        "content_length",
        "head_complete",
        "headers",
        "persistent",
        "reason",
        "status",
        "surplus",
    )

    def __init__(self, *, head: bool = False) -> None:
        self.status = 0
        self.reason = b""
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.content_length: int | None = None
        self.chunked = False
        self.bodiless = False
        self.persistent = True
        self.head_complete = False
        self.complete = False
        self.surplus = False
        self.buffered = 0
        self._request_was_head = head
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_ended = False
        self._seen: bytearray | None = None
        self._informational = 0
        self._remaining = 0
        self._pieces: list[bytes] = []
        self._tail = b""
        self._without_body = 0
        self._llhttp: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection.

        Raises UpstreamBadResponse when they can't be an answer (RFC 9112 4 to 7). Bytes after a complete answer raise
        nothing: they set `surplus`, since the answer itself is good and only the connection is not.
        """
        while not self.head_complete:
            data = self._feed_head(data)
            if not data:
                return
        if self.complete:
            self.surplus = True
        elif self.chunked:
            self._feed_chunks(data)
        else:
            self._feed_counted(data)

    def take(self) -> bytes:
        """Return all of the body that came since the last call, perhaps nothing."""
        pieces = self._pieces
        if not pieces:
            return b""
        self.buffered = 0
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_head(self, data: bytes) -> bytes:
        """Take what of *data* belongs to the head; return what follows it."""
        seen = self._seen
        if seen is None:  # as a rule the head comes whole
            known = 0
            size = data.find(_HEAD_END) + 4  # 3: there is no end
        else:
            known = len(seen)
            seen += data
            size = seen.find(_HEAD_END, max(known - 3, 0)) + 4
        if size == 3:
            if known + len(data) > HEAD_LIMIT:
                _refuse("the head is too large")
            self._execute(data)
            if self._headers_ended:
                _refuse("the head does not end in CRLF CRLF")
            self._seen = bytearray(data) if seen is None else seen
            return b""
        if size > HEAD_LIMIT:
            _refuse("the head is too large")
        self._seen = None
        part = data[: size - known]
        self._execute(part)
        self._judge(part if seen is None else bytes(seen[:size]))
        return data[size - known :]

    def _judge(self, head: bytes) -> None:
        """Check *head*, which llhttp has just taken, and find its framing."""
        llhttp = self._llhttp
        if llhttp is None or not self._headers_ended or not head.startswith(_VERSIONS):
            _refuse("not an HTTP/1.0 or HTTP/1.1 status line")
        if self.reason != b"OK" or not head.isascii():
            _check_text(head, self.reason)
        status = llhttp.get_status_code()
        if status < 200:
            self._skip_informational(status)
            return
        if status > 599:
            _refuse("the status is not in 200 to 599")
        headers = self._headers
        if len(headers) > HEADERS_LIMIT:
            _refuse("too many headers")
        if b" \r\n" in head or b"\t\r\n" in head:
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]
        self.status = status
        self.headers = tuple(headers)
        self._frame(http10=head[7] == _ZERO)

    def _frame(self, *, http10: bool) -> None:
        """Find where the body ends."""
        try:
            length, self.chunked, self.persistent = framing_of(self.headers, http10=http10)
        except FramingRefused as error:
            _refuse(str(error))
        self.content_length = length
        self.head_complete = True
        self.bodiless = self._request_was_head or self.status in {204, 304}
        if self.bodiless or length == 0:
            self._end()
        elif length is not None:
            self._remaining = length
            self._llhttp = None  # it would only copy a body whose length is known
        elif not self.chunked:
            _refuse("the body's end can't be told: neither Content-Length nor chunked")

    def _skip_informational(self, status: int) -> None:
        """Swallow a 1xx head (RFC 9110 15.2); 101 would begin another protocol that nobody asked for."""
        if status == 101 or status < 100:
            _refuse("the status is not in 200 to 599")
        self._informational += 1
        if self._informational > INFORMATIONAL_LIMIT:
            _refuse("too many informational answers")
        self._headers = []
        self._headers_ended = False
        self.reason = b""

    def _feed_counted(self, data: bytes) -> None:
        """Take *data* of a body whose length is known."""
        size = len(data)
        if size > self._remaining:
            data = data[: self._remaining]
            size = self._remaining
            self.surplus = True
        self._remaining -= size
        self._pieces.append(data)
        self.buffered += size + _PIECE_OVERHEAD
        if not self._remaining:
            self._end()

    def _feed_chunks(self, data: bytes) -> None:
        """Take *data* of a chunked body; trailers are dropped."""
        already = len(self._pieces)
        self._execute(data)
        self._headers.clear()  # of trailers
        self._tail = (self._tail + data)[-5:] if len(data) < 5 else data[-5:]
        if self.complete:
            # llhttp swallows line ends after the last chunk. The body's own end is CRLF CRLF after something else.
            if self._tail[-4:] != _HEAD_END or self._tail[:1] in {b"\r", b"\n"}:
                self.surplus = True
            self._end()
        if len(self._pieces) > already:
            self._without_body = 0
            self._merge(already)
        else:
            self._without_body += len(data)
            if self._without_body > FRAMING_LIMIT and not self.complete:
                _refuse("chunk extensions or trailers without end")

    def _merge(self, already: int) -> None:
        """Make one piece of those that one call of `feed` brought."""
        fresh = self._pieces[already:]
        if len(fresh) > 1:
            fresh = [b"".join(fresh)]
            self._pieces[already:] = fresh
        self.buffered += len(fresh[0]) + _PIECE_OVERHEAD

    def _execute(self, data: bytes) -> None:
        llhttp = self._llhttp
        if llhttp is None:
            return
        try:
            llhttp.feed_data(data)
        except HttpParserUpgrade:
            _refuse("the status is not in 200 to 599")  # 101; it is no HttpParserError
        except HttpParserError as error:
            self._llhttp = None
            if self.complete:
                self.surplus = True
                return
            # llhttp's texts are constants: they name the rule, never the bytes.
            _refuse(str(error))

    def _end(self) -> None:
        self.complete = True
        self._llhttp = None  # it holds our methods: without this every answer would be a cycle for the collector

    # llhttp's callbacks.

    def on_status(self, piece: bytes) -> None:
        """Take the reason, perhaps in several pieces; after the end of a chunked body it is another answer's."""
        if self.head_complete:
            self.surplus = True
        else:
            self.reason += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is dropped (RFC 9110 6.5.1)."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the end of a head; after the end of a chunked body it is another answer's."""
        if self.head_complete:
            self.surplus = True
        self._headers_ended = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece of a chunked body."""
        if not self.complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of a chunked body; of all others we know it ourselves."""
        if self.head_complete:
            self.complete = True


def _check_text(head: bytes, reason: bytes) -> None:
    """Refuse what llhttp lets pass: any byte in the reason, any byte above 127 in a value."""
    if reason != b"OK" and len(reason.translate(None, _CONTROLS)) != len(reason):
        _refuse("the reason holds control characters")
    if not head.isascii():
        try:
            head.decode()  # no UTF-8 sequence spans two headers, so one look is enough
        except UnicodeDecodeError:
            _refuse("the head is not UTF-8")


def _refuse(cause: str) -> NoReturn:
    raise UpstreamBadResponse("The bank's answer is not acceptable HTTP/1.1", cause=cause) from None
