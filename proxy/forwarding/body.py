"""The request body: held completely up to a limit, so that it can be replayed exactly, or streamed and sent once."""

from proxy.errors import BadRequest, BodyTooLarge
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gateway import BodyDigest, Gateway
from proxy.routing.request_head import RequestHead


class RequestBody:
    """A request body: *held* bytes, or None and a stream that can be read once."""

    __slots__ = (
        "_digest",
        "_exchange",
        "_first_pieces",
        "_gateway",
        "_holder",
        "_reserved",
        "_side",
        "_within",
        "held",
    )

    def __init__(self, gateway: Gateway, side: CallerSide, exchange: Exchange) -> None:
        self._exchange = exchange
        self._side = side
        self._gateway = gateway
        self._first_pieces: list[bytes] = []
        self._digest: BodyDigest | None = None
        self._reserved = 0
        self._holder = ""  # the caller charged for the memory: the exchange's caller may change meanwhile
        self._within = gateway.exchange_timeout
        self.held: bytes | None = b""

    async def take(self, head: RequestHead, *, replay_limit: int, within: float = 0.0, whole: bool = False) -> None:
        """Read the whole body if it is at most *replay_limit* bytes, else only its beginning.

        The body must arrive *within* seconds, 0 for exchange_timeout; with *whole*, which is for signing, a larger or
        encoded one is refused. Raises BodyTooLarge, BodyEncoded, Overloaded, CallerLeft, BadRequest (400, 408).
        """
        if within:
            self._within = within
        begin = self._gateway.body_digest
        if begin is not None:
            self._digest = begin()
        length, limit = head.content_length or 0, self._gateway.max_body
        if limit and length > limit:
            raise BodyTooLarge(f"The body has {length} bytes, the limit is {limit}.")
        if whole:
            head.refuse_encoded()
        if length > replay_limit:
            if whole:
                raise _too_large_to_sign(replay_limit)
            self.held = None
        else:
            self.reserve(length)
            arrived = self._side.whole_body()
            if arrived is not None:
                self._count(arrived)
                self.held = arrived
                self._finish_digest()
                return
        if head.expects_continue and not self._side.body_started():
            self._side.send_continue()
        if self.held is None:
            # It is sent with the head: connecting before it arrives would let the token expire and the connection idle.
            started = self._gateway.monotonic()
            piece = await self._read()
            self._exchange.waited += self._gateway.monotonic() - started
            self._count(piece)
            self._first_pieces.append(piece)
        else:
            await self._collect(head, replay_limit, whole=whole)

    async def _collect(self, head: RequestHead, replay_limit: int, *, whole: bool) -> None:
        """Hold the pieces of the body, unless they turn out to be more than *replay_limit* bytes; raises as `take`."""
        size = 0
        while size <= replay_limit:
            piece = await self._read()
            if not piece:
                self.held = b"".join(self._first_pieces)
                self._first_pieces.clear()
                self._finish_digest()
                return
            if head.chunked:
                self.reserve(len(piece))
            self._count(piece)
            self._first_pieces.append(piece)
            size += len(piece)
        if whole:
            raise _too_large_to_sign(replay_limit)
        self.held = None

    def stream(self) -> "BodyStream":
        """Return an iterator over a body that is not held; it raises as `take`."""
        return BodyStream(self)

    async def next_piece(self) -> bytes:
        """Return the next piece of a body that is not held, b"" at its end."""
        if self._first_pieces:
            return self._first_pieces.pop(0)
        self.release()
        piece = await self._read()
        if piece:
            self._count(piece)
        else:
            self._finish_digest()
        return piece

    async def _read(self) -> bytes:
        limit = self._within
        left = self._exchange.started + limit - self._gateway.monotonic()
        if left <= 0:
            raise BadRequest(f"The body did not arrive within {limit:g} s.", status=408)
        return await self._side.read_body(left)

    def release(self) -> None:
        """Release the reserved memory."""
        if self._reserved:
            self._gateway.admission.release_memory(self._holder, self._reserved)
            self._reserved = 0

    def reserve(self, size: int) -> None:
        """Reserve memory for *size* more bytes; raises Overloaded."""
        if not self._reserved:
            self._holder = self._exchange.caller
        self._gateway.admission.hold(self._holder, size)
        self._reserved += size

    def _finish_digest(self) -> None:
        """Store the digest of the body, which is complete now."""
        if self._digest is not None:
            self._exchange.body_hmac = self._digest.hexdigest()

    def _count(self, piece: bytes) -> None:
        self._exchange.request_bytes += len(piece)
        if self._digest is not None:
            self._digest.update(piece)


def _too_large_to_sign(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"This rule signs bodies, and only up to {limit} bytes (replay_body_bytes).")


class BodyStream:
    """Iterates over a body once."""

    def __init__(self, body: RequestBody) -> None:
        self._body = body

    def __aiter__(self) -> "BodyStream":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._body.next_piece()
        if not piece:
            raise StopAsyncIteration
        return piece
