"""The callers' server: creates their connections, and holds what these share.

Of aiohttp's server the reader of streamed bodies is left; `check_seam` checks at start what that needs of a connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from aiohttp.base_protocol import BaseProtocol

from proxy.http1.timer_wheel import TimerWheel
from proxy.http1.write_coalescer import WriteCoalescer
from proxy.request_summary import RequestSummary
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.worker.caller_connection import CallerConnection
from proxy.worker.caller_request import CallerRequest, Life
from proxy.worker.lingering import Lingering
from proxy.worker.request_head import HeadParser
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts

Serve = Callable[[CallerRequest], Awaitable[None]]


def check_seam() -> None:
    """Raise RuntimeError if a name that aiohttp's StreamReader uses of its protocol, as we know it, has changed."""
    wanted = ("_reading_paused", "connected", "pause_reading", "resume_reading")
    missing = [name for name in wanted if not hasattr(BaseProtocol, name)]
    if missing:
        from importlib.metadata import version  # noqa: PLC0415 - 1 MB that no worker needs

        raise RuntimeError(f"aiohttp {version('aiohttp')} does not fit: missing {', '.join(missing)}")


class CallerServer:
    """Creates the caller connections of all listening sockets of a worker, and knows those that are there."""

    def __init__(
        self,
        serve: Serve,
        *,
        max_header_bytes: int,
        max_body_bytes: int = 0,
        certificate_refused: Callable[[str], None] = lambda _: None,
        timeouts: CallerTimeouts = CALLER_TIMEOUTS,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers = TimerWheel(self.loop)
        self.serve = serve
        self.certificate_refused = certificate_refused
        self.timeouts = timeouts
        self.max_head = max_header_bytes + MAX_TARGET_BYTES
        self.max_body = max_body_bytes
        self.heads = HeadParser()
        self.life = Life()
        self.coalescer = WriteCoalescer()
        self.known: dict[CallerConnection, None] = {}  # open, or with a request that is not recorded yet
        self.open_connections = 0
        self.handshakes = 0  # connections whose TLS handshake is not over
        self.serving = 0  # requests that are not recorded yet, even if their callers have disconnected
        self.lingering = Lingering(timeouts.lingering)

    def __call__(self) -> "CallerConnection":
        """Return the protocol object of a new connection."""
        return CallerConnection(self)

    def awaiting(self) -> Iterator[RequestSummary]:
        """Yield the summary of every request in flight that has arrived whole, also if its caller has left since."""
        for connection in self.connections:
            if (summary := connection.awaiting()) is not None:
                yield summary

    def drain(self) -> None:
        """Close idle connections; the others close after their next response."""
        self.life.draining = True
        for connection in self.connections:
            connection.close_if_idle()

    def cancel(self) -> None:
        """Cancel the requests that are being served; they are recorded in the next iterations of the loop."""
        for connection in self.connections:
            connection.cancel()

    @property
    def connections(self) -> "list[CallerConnection]":
        """Return the connections that are open, or have a request that is not recorded yet."""
        return list(self.known)
