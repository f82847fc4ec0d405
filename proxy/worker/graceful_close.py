"""Closing a listener without cutting off those who stand in its queue: Linux resets them when it is closed."""

import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Sequence
from typing import Final, Protocol

from proxy.clock import Clock

# Who had the first word of a handshake has this long for the last: the round trip to any caller's network.
LAST_HANDSHAKES_SECONDS: Final = 0.3
# A queue that does not empty, since the filter is not to be had, keeps no worker from stopping.
_LONGEST_SECONDS: Final = 5.0
_SO_ATTACH_FILTER: Final = 26
# A classic BPF program (socket(7)); it sees a segment from the TCP header on, whose byte 13 holds the flags. Accepted
# connections inherit it, and never get a SYN.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # of these SYN and ACK
    (0x15, 0, 1, 0x02),  # a SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all else
)


class Closable(Protocol):
    """What takes connections until it is closed, and its listening sockets with it."""

    def close(self) -> None:
        """Accept no more."""


async def close_gracefully(acceptors: Sequence[Closable], listeners: Sequence[socket.socket], *, clock: Clock) -> None:
    """Stop new connections, accept those in the kernel's queues, then close *acceptors* and their *listeners*.

    New SYNs are dropped by a BPF filter meanwhile; after the close the client gets a RST. The path of a Unix socket
    must be removed before.
    """
    for listener in listeners:
        _drop_new_connections(listener)
    began = clock.monotonic()
    waiting = select.poll()
    for listener in listeners:
        waiting.register(listener.fileno(), select.POLLIN)
    while (passed := clock.monotonic() - began) < LAST_HANDSHAKES_SECONDS or _somebody(waiting):
        if passed > _LONGEST_SECONDS:
            break
        await clock.sleep(0.02)
    for acceptor in acceptors:
        acceptor.close()


def _somebody(waiting: select.poll) -> bool:
    # A socket that never listened, as of an instance that is stopped while it starts, reports POLLHUP for ever.
    return any(event & select.POLLIN for _, event in waiting.poll(0))


def _drop_new_connections(listener: socket.socket) -> None:
    if listener.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    # Where filters are not to be had, as on other systems, the queue is emptied all the same.
    with contextlib.suppress(OSError):
        pointer = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
