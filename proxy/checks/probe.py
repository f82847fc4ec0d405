"""Tests the connection to a server step by step: name, TCP, egress proxy, TLS; sends no request."""

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from proxy.clock import Clock
from proxy.settings.addresses import url_parts
from proxy.settings.credential import CredentialSection
from proxy.settings.model import UpstreamSection
from proxy.upstream.dial import Egress, TunnelRefused, dial
from proxy.upstream.resolver import Address, Resolver
from proxy.upstream.tls import client_context


class ProbeStep(Enum):
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


def destination_of(section: CredentialSection | UpstreamSection, text: str) -> Destination:
    """Return the server at the URL *text* of *section*, and how it is reached."""
    url = url_parts(text)
    return Destination(
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        ca_file=section.ca_file,
        client_certificate_file=section.client_certificate_file,
        client_key_file=section.client_key_file,
        egress_proxy=section.egress_proxy,
    )


@dataclass(slots=True)
class ProbeResult:
    """The result of a probe: *step* is the one that failed, or ARRIVED.

    *reason* is the system's or OpenSSL's message, *verify_code* OpenSSL's number for a rejected certificate.
    *certificate* is the server's, trusted only if *step* is ARRIVED.
    """

    destination: Destination
    step: ProbeStep = ProbeStep.NAME
    reason: str = ""
    verify_code: int = 0
    tls_version: str = ""
    certificate: x509.Certificate | None = None


async def probe(destination: Destination, *, clock: Clock, seconds: float) -> ProbeResult:
    """Connect to *destination* within *seconds* and return how far it went; raise TlsUnusable for our own files."""
    context = None
    if destination.scheme == "https":
        context = client_context(
            ca_file=destination.ca_file,
            certificate_file=destination.client_certificate_file,
            key_file=destination.client_key_file,
        )
    result = ProbeResult(destination)
    try:
        async with asyncio.timeout(seconds):
            await _walk(result, context, clock)
    except TimeoutError:
        result.reason = f"no answer within {seconds:g} s"
    except ssl.SSLCertVerificationError as error:
        result.step, result.reason, result.verify_code = ProbeStep.CERTIFICATE, error.verify_message, error.verify_code
        result.certificate = await _shown(destination, clock=clock, seconds=seconds)
    except TunnelRefused as error:
        result.step, result.reason = ProbeStep.TUNNEL, str(error)
    except OSError as error:
        result.reason = _words(error)
    return result


async def _walk(result: ProbeResult, context: ssl.SSLContext | None, clock: Clock) -> None:
    """Connect, and note in *result* the step that is being taken."""
    there = result.destination
    egress = Egress.of(there.egress_proxy)
    host, port = (egress.host, egress.port) if egress else (there.host, there.port)
    addresses = await Resolver(host, port, clock=clock).addresses()
    result.step = ProbeStep.CONNECTION
    connected = await _dialled(addresses, tunnel_to=there.authority if egress and context else "")
    if context is None:
        connected.close()
    else:
        result.step = ProbeStep.HANDSHAKE
        _, writer = await asyncio.open_connection(sock=connected, ssl=context, server_hostname=there.host)
        tls = writer.get_extra_info("ssl_object")
        result.tls_version, result.certificate = tls.version() or "", _parsed(tls.getpeercert(binary_form=True))
        writer.transport.abort()
    result.step = ProbeStep.ARRIVED


async def _shown(destination: Destination, *, clock: Clock, seconds: float) -> x509.Certificate | None:
    """Return the rejected certificate, to name its issuer; the connection is closed after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    result = ProbeResult(destination)
    with contextlib.suppress(OSError):  # includes TimeoutError
        async with asyncio.timeout(seconds):
            await _walk(result, context, clock)
    return result.certificate


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
