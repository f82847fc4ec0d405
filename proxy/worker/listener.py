"""The callers' server: creates their connections, and knows those that are there.

Of aiohttp's server the reader of streamed bodies is left; `check_seam` checks at start what that needs of a connection.
"""

import aiohttp
from aiohttp.base_protocol import BaseProtocol

from proxy.worker.caller_connection import CallerConnection
from proxy.worker.listener_state import ListenerState


def check_seam() -> None:
    """Raise RuntimeError if a name that aiohttp's StreamReader uses of its protocol, as we know it, has changed."""
    wanted = ("_reading_paused", "connected", "pause_reading", "resume_reading")
    missing = [name for name in wanted if not hasattr(BaseProtocol, name)]
    if missing:
        raise RuntimeError(f"aiohttp {aiohttp.__version__} does not fit: missing {', '.join(missing)}")


class CallerServer(ListenerState):
    """Creates the caller connections of all listening sockets of a worker."""

    def __call__(self) -> "CallerConnection":
        """Return the protocol object of a new connection."""
        return CallerConnection(self)

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
