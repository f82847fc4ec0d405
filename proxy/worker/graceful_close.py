"""Closes listeners without resetting connections in the accept queue: Linux resets those when a listener is closed."""

import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Sequence
from typing import Final, Protocol

from proxy.clock import Clock

# Clients whose SYN was received have this long to complete the handshake: one network round trip.
LAST_HANDSHAKES_SECONDS: Final = 0.3
# Upper bound, so that an accept queue that does not empty (no BPF filter) does not keep the worker from stopping.
_LONGEST_SECONDS: Final = 5.0
_SO_ATTACH_FILTER: Final = 26
# A classic BPF program (socket(7)). It sees the segment from the TCP header on, whose byte 13 holds the flags. Accepted
# connections inherit the filter, but never receive a SYN.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # keep only the bits SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN without ACK?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # accept everything else
)


class Closable(Protocol):
    """Accepts connections until it is closed; closes its listening sockets too."""

    def close(self) -> None:
        """Stop accepting."""


async def close_gracefully(acceptors: Sequence[Closable], listeners: Sequence[socket.socket], *, clock: Clock) -> None:
    """Stop new connections, accept those in the kernel's queues, then close *acceptors* and their *listeners*.

    New SYNs are dropped by a BPF filter meanwhile; after the close the client gets a RST. The path of a Unix socket
    must be removed before the call.
    """
    for listener in listeners:
        _drop_new_connections(listener)
    started = clock.monotonic()
    waiting = select.poll()
    for listener in listeners:
        waiting.register(listener.fileno(), select.POLLIN)
    while (passed := clock.monotonic() - started) < LAST_HANDSHAKES_SECONDS or _is_queued(waiting):
        if passed > _LONGEST_SECONDS:
            break
        await clock.sleep(0.02)
    for acceptor in acceptors:
        acceptor.close()


def _is_queued(waiting: select.poll) -> bool:
    # POLLHUP is ignored: a socket that never listened (instance stopped during start) reports it permanently.
    return any(event & select.POLLIN for _, event in waiting.poll(0))


def _drop_new_connections(listener: socket.socket) -> None:
    if listener.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    # Where filters are unavailable, e.g. on other systems, the accept queue is still emptied.
    with contextlib.suppress(OSError):
        pointer = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
