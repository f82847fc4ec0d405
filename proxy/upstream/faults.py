"""How what goes wrong on the way to the bank is called; no text holds a byte that a peer sent."""

import socket
import ssl

from proxy.errors import UpstreamReset, UpstreamUnreachable


def unreachable(error: Exception, *, where: str) -> UpstreamUnreachable:
    """Return the error for a connection to *where* (`host:port`) that could not be opened."""
    if isinstance(error, TimeoutError):
        detail, cause = "The bank can't be reached in time", "timed out"
    elif isinstance(error, ssl.SSLCertVerificationError):
        detail, cause = "The bank's certificate is not acceptable", error.verify_message
    elif isinstance(error, ssl.SSLError):
        detail, cause = "TLS with the bank failed", error.reason or "failed"
    elif isinstance(error, socket.gaierror):
        detail, cause = "The bank's name can't be resolved", error.strerror or "no address"
    else:
        detail, cause = "The bank can't be reached", _said(error)
    return UpstreamUnreachable(detail, cause=f"{where}: {cause}")


def broken(error: Exception | None) -> UpstreamReset:
    """Return the error for a connection that ended while an answer was due, with what the transport said of it."""
    if error is None:
        cause = "closed by the bank"
    elif isinstance(error, ssl.SSLError):
        cause = f"TLS: {error.reason or 'failed'}"  # e.g. the bank's alert about our client certificate
    else:
        cause = _said(error)
    return UpstreamReset("The connection to the bank broke before its answer was complete", cause=cause)


def unsent(cause: str) -> UpstreamUnreachable:
    """Return the error for a request of which no byte was handed to the connection."""
    return UpstreamUnreachable("The connection to the bank ended before anything was sent", cause=cause)


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
