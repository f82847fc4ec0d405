"""A TCP relay that keeps, delays or drops what goes through it: a slow or partitioned server, seen from one client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TcpRelay:
    """Relays connections to *port* of loopback; *delay* in seconds applies to answers, *dropping* to everything.

    *sent* is what all clients have sent.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.delay = 0.0
        self.dropping = False
        self.sent = bytearray()
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for pair in ((reader, there_writer, False), (there_reader, writer, True)):
            task = asyncio.create_task(self._pass_on(*pair[:2], delayed=pair[2]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool) -> None:
        try:
            while data := await reader.read(65536):
                if not delayed:
                    self.sent += data
                if delayed and self.delay:
                    await asyncio.sleep(self.delay)
                if not self.dropping:
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def end(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def tcp_relay(port: int) -> AsyncIterator[TcpRelay]:
    """Run a relay to *port* for the block."""
    relay = TcpRelay(port)
    server = await asyncio.start_server(relay._accepted, "127.0.0.1", 0)
    relay.port = int(server.sockets[0].getsockname()[1])
    try:
        yield relay
    finally:
        server.close()
        await relay.end()
        await server.wait_closed()
