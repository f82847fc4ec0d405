"""Tests the connection to a server step by step: name, TCP, egress proxy, TLS; sends no request."""

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from proxy.clock import Clock
from proxy.upstream.dial import Egress, TunnelRefused, dial
from proxy.upstream.resolver import Address, Resolver
from proxy.upstream.tls import client_context


class Step(Enum):
    """The step that a probe reached; ARRIVED is the last."""

    NAME = "name"
    CONNECTION = "connection"
    TUNNEL = "tunnel"
    HANDSHAKE = "handshake"
    CERTIFICATE = "certificate"
    ARRIVED = "arrived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A server and how to reach it; file names absolute or "", *egress_proxy* as http://host:port or ""."""

    scheme: str
    host: str
    port: int
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    egress_proxy: str = ""

    @property
    def authority(self) -> str:
        """Return host:port, with brackets for IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The result of a probe: *step* is the one that failed, or ARRIVED.

    *reason* is the system's or OpenSSL's message, *verify_code* OpenSSL's number for a rejected certificate.
    *certificate* is the server's, trusted only if *step* is ARRIVED.
    """

    destination: Destination
    step: Step
    reason: str = ""
    verify_code: int = 0
    tls_version: str = ""
    certificate: x509.Certificate | None = None


async def probe(destination: Destination, *, clock: Clock, seconds: float) -> Way:
    """Connect to *destination* within *seconds* and return how far it went; raise TlsUnusable for our own files."""
    context = None
    if destination.scheme == "https":
        context = client_context(
            ca_file=destination.ca_file,
            certificate_file=destination.client_certificate_file,
            key_file=destination.client_key_file,
        )
    walk = _Walk(destination, clock)
    try:
        async with asyncio.timeout(seconds):
            return await walk.go(context)
    except TimeoutError:
        return walk.ended(f"no answer within {seconds:g} s")
    except ssl.SSLCertVerificationError as error:
        walk.step = Step.CERTIFICATE
        shown = await _shown(destination, clock=clock, seconds=seconds)
        return walk.ended(error.verify_message, verify_code=error.verify_code, certificate=shown)
    except TunnelRefused as error:
        walk.step = Step.TUNNEL
        return walk.ended(str(error))
    except OSError as error:
        return walk.ended(_words(error))


class _Walk:
    def __init__(self, destination: Destination, clock: Clock) -> None:
        self.step = Step.NAME
        self._destination = destination
        self._clock = clock

    async def go(self, context: ssl.SSLContext | None) -> Way:
        there = self._destination
        egress = Egress.of(there.egress_proxy)
        host, port = (egress.host, egress.port) if egress else (there.host, there.port)
        addresses = await Resolver(host, port, clock=self._clock).addresses()
        self.step = Step.CONNECTION
        connected = await _dialled(addresses, tunnel_to=there.authority if egress and context else "")
        if context is None:
            connected.close()
            self.step = Step.ARRIVED
            return self.ended()
        self.step = Step.HANDSHAKE
        _, writer = await asyncio.open_connection(sock=connected, ssl=context, server_hostname=there.host)
        tls = writer.get_extra_info("ssl_object")
        try:
            self.step = Step.ARRIVED
            return self.ended(tls_version=tls.version() or "", certificate=_parsed(tls.getpeercert(binary_form=True)))
        finally:
            writer.transport.abort()

    def ended(
        self,
        reason: str = "",
        *,
        verify_code: int = 0,
        tls_version: str = "",
        certificate: x509.Certificate | None = None,
    ) -> Way:
        return Way(
            destination=self._destination,
            step=self.step,
            reason=reason,
            verify_code=verify_code,
            tls_version=tls_version,
            certificate=certificate,
        )


async def _shown(destination: Destination, *, clock: Clock, seconds: float) -> x509.Certificate | None:
    """Return the rejected certificate, to name its issuer; the connection is closed after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            return (await _Walk(destination, clock).go(context)).certificate
    except OSError:  # includes TimeoutError
        return None


async def _dialled(addresses: tuple[Address, ...], *, tunnel_to: str) -> socket.socket:
    """Return a socket connected to the first of *addresses* that answers."""
    failure: OSError = OSError("no address")
    for address in addresses:
        try:
            return await dial(address, tunnel_to=tunnel_to)
        except TunnelRefused:
            raise
        except OSError as error:
            failure = error
    raise failure


def _parsed(der: bytes | None) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "failed").lower().replace("_", " ")
    if isinstance(error, socket.gaierror) or not error.errno:
        return (error.strerror or "the connection was closed").lower()
    return os.strerror(error.errno).lower()
