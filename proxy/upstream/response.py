"""The bank's response as the sender of the request sees it."""

from typing import Protocol

from proxy.errors import UpstreamFault, UpstreamReset
from proxy.http1.timer import NEVER
from proxy.upstream.response_head import BODILESS, HEAD_LIMIT, ResponseHead, read_head
from proxy.upstream.response_parser import ResponseParser


def whole_response(data: bytes, *, to_head: bool) -> tuple[ResponseHead, bytes] | None:
    """Return head and body if *data* is exactly one complete response, else None: use a ResponseParser then.

    This is the case of nearly every small response, which then needs no parser. *to_head*: the request was HEAD. Raises
    UpstreamBadResponse.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or end > HEAD_LIMIT - 4:
        return None
    head = read_head(data[:end])
    size = 0 if to_head or head.status in BODILESS else head.content_length
    if size is None or head.status < 200 or len(data) != end + 4 + size:
        return None
    return head, data[end + 4 :]


class Source(Protocol):
    """The source of a response's bytes: the connection, while the exchange lasts."""

    async def more(self, until: float = NEVER) -> bool:
        """Wait for more of the response, or its end; raises the error that cut it off.

        Return False if nothing came by *until* (monotonic); the exchange goes on.
        """

    def resume_reading(self) -> None:
        """Resume reading the socket after the buffered part of the response was read."""

    def finish(self) -> None:
        """End the exchange."""


class UpstreamResponse:
    """A validated head, and the body as it arrives.

    `complete`: the whole body came with the head, or was gathered, and is in `body`; then there is no *parser*.
    `bodiless`: the response has no body by method or status, whatever `content_length` says. Trailers are dropped.
    """

    __slots__ = ("_parser", "_ready", "_source", "bodiless", "body", "complete", "content_length", "head", "status")

    def __init__(
        self, source: Source, head: ResponseHead, body: bytes, *, bodiless: bool, parser: ResponseParser | None = None
    ) -> None:
        self._source: Source | None = source
        self._parser = parser
        self.head = head
        self.status = head.status
        self.content_length = head.content_length
        self.bodiless = bodiless
        self.complete = parser is None
        self.body = body
        self._ready = body

    def __repr__(self) -> str:
        return f"<UpstreamResponse [{self.status}, {'complete' if self.complete else 'body to come'}]>"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return names and values in the bank's order and spelling."""
        return self.head.headers

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises UpstreamReset, UpstreamBadResponse or UpstreamTimedOut if the body is cut off; what came before the cut
        is returned first.
        """
        parser = self._parser
        if self._ready or parser is None:
            piece, self._ready = self._ready, b""
            return piece
        while True:
            piece = parser.take()
            if piece:
                if self._source is not None:
                    self._source.resume_reading()
                return piece
            if parser.complete:
                return b""
            if self._source is None:
                raise UpstreamReset("The bank's answer was given up before its end")
            await self._source.more()

    async def peek(self, limit: int) -> bytes:
        """Return up to about *limit* bytes from the body's start, and leave them to be read; raises as `read`."""
        if self.complete:
            return self.body[:limit]
        found, self._ready = self._ready, b""
        while len(found) < limit and (piece := await self.read()):
            found += piece
        self._ready = found
        return found[:limit]

    async def gather(self, limit: int, *, until: float) -> None:
        """Wait for the end of the body, at most about *limit* bytes and until monotonic *until*.

        A body that is whole then makes the response `complete`; any other is left to be read. Raises as `read`.
        """
        parser = self._parser
        if parser is None:
            return
        while not parser.complete and len(self._ready) + parser.buffered <= limit:
            if self._source is None:
                raise UpstreamReset("The bank's answer was given up before its end")
            if not await self._source.more(until):
                break
        if parser.complete:
            self.body = self._ready = self._ready + parser.take()
            self.complete = True
            self._parser = None

    def release(self) -> None:
        """Release the connection, whether or not the body was read: to the pool, or closed. Idempotent."""
        source = self._source
        if source is not None:
            self._source = None
            source.finish()

    async def drain(self, limit: int) -> None:
        """Read and drop up to *limit* bytes, then release; a body known to be longer is not read at all."""
        parser = self._parser
        try:
            if parser is not None and (self.content_length is None or self.content_length <= limit):
                while limit >= 0 and not parser.complete:
                    limit -= len(await self.read())
        except UpstreamFault:
            pass  # the body is dropped anyway
        finally:
            self.release()
