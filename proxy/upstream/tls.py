"""The TLS context for connections to APIs and token endpoints; verification of the host name can't be turned off."""

import os
import ssl
import stat


class TlsUnusable(ValueError):
    """A certificate or key file can't be used; the text names the file and why, never its content."""


def client_context(*, ca_file: str = "", certificate_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later that verifies chain and host name (RFC 9110 4.3.4).

    *ca_file* replaces the system's authorities. *certificate_file* with *key_file* is our client certificate. Raises
    TlsUnusable. `ssl.create_default_context` is not used: it writes session keys to $SSLKEYLOGFILE, and from Python
    3.13 on it refuses certificates without key identifiers, as private CAs make them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name by default
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # else a peer could make our writes wait for its bytes
    if ca_file:
        _load_authorities(context, ca_file)
    else:
        context.load_default_certs()
    if certificate_file or key_file:
        _load_identity(context, certificate_file, key_file)
    return context


def _load_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    _open_once(ca_file)
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError:  # also an SSLError
        raise TlsUnusable(f"{ca_file}: holds no certificate in PEM form") from None


def _open_once(file: str) -> None:
    """Raise TlsUnusable if *file* can't be opened, which OpenSSL does not say of which file, or would block OpenSSL."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TlsUnusable(f"{file or 'client certificate'}: {error.strerror}") from None
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    if not regular:
        raise TlsUnusable(f"{file}: is not a regular file")


def _load_identity(context: ssl.SSLContext, certificate_file: str, key_file: str) -> None:
    for file in (certificate_file, key_file or certificate_file):
        _open_once(file)
    try:
        context.load_cert_chain(certificate_file, key_file or None, password=_no_passphrase)
    except _PassphraseNeeded:
        raise TlsUnusable(f"{key_file or certificate_file}: is encrypted; a client key must not be") from None
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):  # error.reason may be None, contrary to typeshed
            raise TlsUnusable(f"{key_file}: is not the key of {certificate_file}") from None
        raise TlsUnusable(f"{certificate_file}, {key_file}: no certificate and key in PEM form") from None


class _PassphraseNeeded(Exception):
    pass


def _no_passphrase() -> bytes:
    raise _PassphraseNeeded  # without a callback OpenSSL would prompt on the terminal
