"""Splits a connection's bytes into requests."""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Final

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge, TargetTooLong
from proxy.routing.request_head import RawHead
from proxy.worker.request_head import (
    CHUNK_OVERHEAD_BYTES,
    CHUNK_OVERHEAD_FACTOR,
    EMPTY_LINES,
    LONGEST_CHUNK_LINE,
    HeadParser,
    check_trailer,
    chunk_size,
    refused,
    unfinished_fault,
)


class WholeBody:
    """A body that arrived complete with its head: it needs no stream."""

    __slots__ = ("_data", "total_bytes")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.total_bytes = len(data)

    def is_eof(self) -> bool:
        """Return True: the body is complete."""
        return True

    def exception(self) -> None:
        """Return None: there is no error."""

    def set_exception(self, exc: BaseException) -> None:
        """Do nothing: the body is complete."""

    def read_nowait(self) -> bytes:
        """Return the body on the first call, b"" afterwards."""
        data, self._data = self._data, b""
        return data

    async def readany(self) -> bytes:
        """Return the body on the first call, b"" afterwards."""
        return self.read_nowait()


_CR: Final = 13
NO_BODY: Final = WholeBody(b"")
Payload = StreamReader | WholeBody
Message = tuple[RawHead, Payload]


class ParserState(Enum):
    """What the next byte belongs to."""

    HEAD = auto()
    LENGTH = auto()  # a body with a Content-Length
    SIZE = auto()  # the size line of a chunk
    CHUNK = auto()  # a chunk's data
    CHUNK_END = auto()  # the CRLF after it
    TRAILERS = auto()
    DEAD = auto()  # after a fault: no further byte is parsed


# Looking up an enum member in its class costs a call each time.
_HEAD: Final[ParserState] = ParserState.HEAD
_LENGTH: Final[ParserState] = ParserState.LENGTH
_SIZE: Final[ParserState] = ParserState.SIZE
_CHUNK: Final[ParserState] = ParserState.CHUNK
_CHUNK_END: Final[ParserState] = ParserState.CHUNK_END
_TRAILERS: Final[ParserState] = ParserState.TRAILERS
_DEAD: Final[ParserState] = ParserState.DEAD


class RequestParser:
    """Parses bytes in any split; returns complete heads, and feeds bodies into their payloads as they arrive.

    *max_head* limits an unfinished head, in bytes. At most *max_waiting* requests are parsed ahead of the current one;
    later bytes stay unparsed. A chunk that would make the body exceed *max_body* bytes (0: no limit) is refused when
    its size is read. *heads* is shared by the connections of a listener. *protocol* is what aiohttp's StreamReader
    pauses: `pause_reading()`, `resume_reading(resume_parser)`, `connected`, `_reading_paused`.
    """

    def __init__(
        self,
        protocol: Any,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head: int,
        max_waiting: int,
        read_buffer: int,
        max_body: int = 0,
        heads: HeadParser | None = None,
    ) -> None:
        self._heads = heads or HeadParser()
        self._protocol = protocol
        self._loop = loop
        self._max_head = max_head
        self._max_waiting = max_waiting
        self._max_body = max_body
        self._read_buffer = read_buffer
        self._rest = b""
        self._state = _HEAD
        self._stream: StreamReader = EMPTY_PAYLOAD
        self._left = 0
        self._empty_lines = 0
        self._waiting = 0
        self._overhead = 0
        self._size = 0

    @property
    def in_head(self) -> bool:
        """Return whether an incomplete head was received."""
        return self._state is _HEAD and bool(self._rest)

    @property
    def quiet(self) -> bool:
        """Return whether no request is incomplete and there was no fault."""
        return self._state is _HEAD and not self._rest

    def feed_data(self, data: bytes) -> Sequence[Message]:
        """Return the requests whose heads *data* completes; a fault is returned as the last one."""
        rest = self._rest
        if self._state is _DEAD or not (data or rest):
            return ()
        messages: list[Message] = []
        position = 0
        if self._state is _HEAD and not rest and self._waiting < self._max_waiting:
            position = self._take_head(data, 0, messages)
            if self._state is _DEAD or (position == len(data) and self._state is _HEAD):  # nearly always: one request
                return messages
        buffer = rest + data if rest else data
        try:
            while position < len(buffer) and self._waiting < self._max_waiting:
                before = position
                if self._state is _HEAD:
                    position = self._take_head(buffer, position, messages)
                else:
                    position = self._take_body(buffer, position)
                if position == before or self._state is _DEAD:
                    break
        except (BadRequest, BodyTooLarge) as fault:
            self._die()
            self._stream.set_exception(fault)
            return messages
        if self._state is _DEAD:
            return messages
        self._rest = buffer[position:] if position else buffer
        if self._state is _HEAD and self._rest and self._waiting < self._max_waiting:
            kept = len(self._rest) - len(data) if not position else 0
            self._check_unfinished(max(kept, 0), messages)
        return messages

    def message_consumed(self) -> None:
        """Note that a queued request is being served."""
        self._waiting -= 1

    def end(self) -> None:
        """Stop parsing, and release the body that is being received, and the connection: no cycle remains."""
        self._die()
        self._stream = EMPTY_PAYLOAD
        self._protocol = None

    def _take_head(self, buffer: bytes, position: int, messages: list[Message]) -> int:
        while (
            position < len(buffer)
            and buffer[position] == _CR
            and buffer.startswith(b"\r\n", position)
            and self._empty_lines < EMPTY_LINES
        ):
            position += 2
            self._empty_lines += 1
        end = buffer.find(b"\r\n\r\n", position)
        if end < 0:
            return position
        raw = self._heads.parse(buffer[position:end])
        position = end + 4
        self._empty_lines = 0
        self._waiting += 1
        payload: Payload = NO_BODY
        if raw.fault is not None or raw.method == "CONNECT":
            self._die()
        elif raw.content_length:
            after = position + raw.content_length
            if after <= len(buffer):
                payload = WholeBody(buffer[position:after])
                position = after
            else:
                self._left = raw.content_length
                payload = self._begin_stream(_LENGTH)
        elif raw.chunked:
            self._overhead = self._size = 0
            payload = self._begin_stream(_SIZE)
        messages.append((raw, payload))
        return position

    def _begin_stream(self, state: ParserState) -> StreamReader:
        self._state = state
        self._stream = StreamReader(self._protocol, self._read_buffer, loop=self._loop)
        return self._stream

    def _take_body(self, buffer: bytes, position: int) -> int:
        if self._state is _LENGTH or self._state is _CHUNK:
            piece = buffer[position : position + self._left] if position or len(buffer) > self._left else buffer
            self._left -= len(piece)
            self._size += len(piece)
            self._stream.feed_data(piece)
            if not self._left:
                if self._state is _LENGTH:
                    self._end_body()
                else:
                    self._state = _CHUNK_END
            return position + len(piece)
        if self._state is _CHUNK_END:
            if not b"\r\n".startswith(buffer[position : position + 2]):
                raise BadRequest("A chunk does not end where its size says (RFC 9112 7.1).")
            if len(buffer) < position + 2:
                return position
            self._state = _SIZE
            return position + 2
        return self._take_line(buffer, position)

    def _take_line(self, buffer: bytes, position: int) -> int:
        """Parse a chunk's size line or a trailer."""
        end = buffer.find(b"\r\n", position)
        if end < 0:
            unended = buffer[position : position + LONGEST_CHUNK_LINE + 2]
            if len(unended) > LONGEST_CHUNK_LINE or b"\n" in unended or b"\r" in unended[:-1]:
                raise BadRequest("A chunk's size or a trailer does not end (RFC 9112 7.1).")
            return position
        line = buffer[position:end]
        self._overhead += len(line) + 2
        if len(line) > LONGEST_CHUNK_LINE or self._overhead > CHUNK_OVERHEAD_BYTES + CHUNK_OVERHEAD_FACTOR * self._size:
            raise BadRequest("Chunk sizes, extensions or trailers take too much.")
        if self._state is _SIZE:
            self._left = chunk_size(line)
            if self._max_body and self._size + self._left > self._max_body:
                raise BodyTooLarge(f"The body exceeds the limit of {self._max_body} bytes.")
            self._state = _CHUNK if self._left else _TRAILERS
        elif line:
            check_trailer(line)
        else:
            self._end_body()
        return end + 2

    def _end_body(self) -> None:
        self._state = _HEAD
        self._stream.feed_eof()

    def _check_unfinished(self, kept: int, messages: list[Message]) -> None:
        fault: BadRequest | HeadersTooLarge | TargetTooLong | None
        fault = unfinished_fault(self._rest[:kept], self._rest[kept:], limit=self._max_head)
        if fault is not None:
            self._die()
            messages.append((refused(fault), NO_BODY))

    def _die(self) -> None:
        self._state = _DEAD
        self._rest = b""

    def __repr__(self) -> str:
        return f"<RequestParser {self._state.name.lower()}, {len(self._rest)} bytes kept, {self._waiting} waiting>"
