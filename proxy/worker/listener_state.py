"""What all connections of callers of a worker share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.http1.timer_wheel import TimerWheel
from proxy.http1.write_coalescer import WriteCoalescer
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.worker.caller_request import CallerRequest, Life
from proxy.worker.lingering import Lingering
from proxy.worker.request_head import HeadParser
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts

Serve = Callable[[CallerRequest], Awaitable[None]]


class ListenerState:
    """What the connections share: *serve*, limits, timeouts, one timer wheel, counts."""

    def __init__(
        self,
        serve: Serve,
        *,
        max_header_bytes: int,
        max_body_bytes: int = 0,
        timeouts: CallerTimeouts = CALLER_TIMEOUTS,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers = TimerWheel(self.loop)
        self.serve = serve
        self.timeouts = timeouts
        self.max_head = max_header_bytes + MAX_TARGET_BYTES
        self.max_body = max_body_bytes
        self.heads = HeadParser()
        self.life = Life()
        self.coalescer = WriteCoalescer()
        self.known: dict[Any, None] = {}  # open, or with a request that is not recorded yet
        self.open_connections = 0
        self.serving = 0  # requests that are not recorded yet, even if their callers have disconnected
        self.lingering = Lingering(timeouts.lingering)
