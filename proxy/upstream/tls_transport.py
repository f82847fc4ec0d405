"""TLS to the bank: the client's side of `http1.tls_transport`."""

import asyncio
import ssl
import sys

from proxy.http1.tls_transport import TlsBuffers, TlsTransport
from proxy.http1.write_coalescer import WriteCoalescer


class Shared:
    """Shared by the connections of one loop."""

    def __init__(self) -> None:
        self.coalescer = WriteCoalescer()
        self.buffers = TlsBuffers()


class UpstreamTls(TlsTransport):
    """The protocol of a connected socket, and the transport of *protocol*, which gets it once the peer is verified.

    `data_received(b"")` reports that bytes arrived without complete data: the socket is not readable any more then, and
    nothing else would show that a record has started.
    `secured` ends with the handshake: it raises ssl.SSLError, ssl.SSLCertVerificationError, or OSError if the
    connection ends before.
    """

    __slots__ = ("_coalescer", "secured")

    def __init__(
        self, protocol: asyncio.Protocol, *, context: ssl.SSLContext, server_hostname: str, shared: Shared
    ) -> None:
        # The peer has proven that it is the bank: an answer is not lost over what it sends beside it.
        super().__init__(
            context, shared.buffers, server_side=False, server_hostname=server_hostname, most_dataless=sys.maxsize
        )
        self._protocol = protocol
        self._coalescer = shared.coalescer
        self.secured: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        super().connection_made(transport)
        self._handshake()

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt *data*; OpenSSL buffers it until it is sent at the end of this loop iteration."""
        try:
            self._write(data)
        except ssl.SSLError as error:
            self._break(error)
            return
        self._coalescer.put(self)

    def _secured(self) -> None:
        self.flush()
        self._open = True
        self._protocol.connection_made(self)
        if not self.secured.done():
            self.secured.set_result(None)

    def _not_secured(self, error: Exception) -> None:
        if not self.secured.done():
            self.secured.set_exception(error)

    def _no_data(self) -> None:
        self._protocol.data_received(b"")

    def _ended(self) -> None:
        self._protocol.eof_received()
