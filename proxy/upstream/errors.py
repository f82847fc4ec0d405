"""Maps connection errors to UpstreamUnreachable and UpstreamReset; no text contains bytes sent by a peer."""

import os
import socket
import ssl

from proxy.errors import UpstreamReset, UpstreamUnreachable


class HandshakeBroken(OSError):
    """The connection ended during the TLS handshake."""


def unreachable(error: Exception, *, where: str) -> UpstreamUnreachable:
    """Return the error for a connection to *where* (`host:port`) that could not be opened."""
    if isinstance(error, TimeoutError):
        detail, cause = "The bank can't be reached in time", "timed out"
    elif isinstance(error, ssl.SSLCertVerificationError):
        detail, cause = "The bank's certificate is not acceptable", error.verify_message
    elif isinstance(error, ssl.SSLError | HandshakeBroken):
        detail, cause = "TLS with the bank failed", _text_of(error)
    elif isinstance(error, socket.gaierror):
        detail, cause = "The bank's name can't be resolved", error.strerror or "no address"
    else:
        detail, cause = "The bank can't be reached", _text_of(error)
    return UpstreamUnreachable(detail, cause=f"{where}: {cause}")


def broken(error: Exception | None) -> UpstreamReset:
    """Return the error for a connection that ended while a response was due, with the transport's *error* as cause."""
    if error is None:
        cause = "closed by the bank"
    elif isinstance(error, ssl.SSLError):
        cause = f"TLS: {_text_of(error)}"  # e.g. the bank's alert about our client certificate
    else:
        cause = _text_of(error)
    return UpstreamReset("The connection to the bank broke before its answer was complete", cause=cause)


def given_up() -> UpstreamReset:
    """Return the error for a connection that we closed while a response was due, e.g. for a caller that left."""
    return UpstreamReset("The connection to the bank was given up before its answer was complete", cause="closed by us")


def unsent(cause: str) -> UpstreamUnreachable:
    """Return the error for a request of which no byte was written to the connection."""
    return UpstreamUnreachable("The connection to the bank ended before anything was sent", cause=cause)


def _text_of(error: Exception) -> str:
    """Return OpenSSL's or the system's text for *error*, without the addresses that asyncio adds."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None) or "failed"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
