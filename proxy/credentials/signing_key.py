"""Finds the key that a credential or a rule signs with: in a file, in a token, or behind a program."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from proxy.clock import SystemClock
from proxy.credentials.command_device import CommandDevice
from proxy.credentials.keys import KeyUnusable, load_private_key, rsa_key_of
from proxy.credentials.pkcs11_device import Pkcs11Device
from proxy.credentials.refused_pins import REFUSED_PINS
from proxy.credentials.remote_key import RemoteKey, SigningDevice
from proxy.secret import Secret
from proxy.settings.pkcs11_uri import Pkcs11Uri
from proxy.settings.signing_key import KeySettings

# The device must give up before the mint does, so that the failure names it.
_SHARE_OF_TIMEOUT = 0.8


def signing_key(
    section: KeySettings,
    *,
    certificate: x509.Certificate | None,
    passphrase: Secret | None = None,
    pin: Secret | None = None,
) -> RSAPrivateKey:
    """Return the key of *section*; raise KeyUnusable.

    A file is read; a token or a program is not asked before the first signature. *certificate* is the key's.
    """
    if section.private_key_file:
        return load_private_key(Path(section.private_key_file), passphrase=passphrase)
    public = rsa_key_of(certificate) if certificate is not None else None
    if certificate is not None and public is None:
        raise KeyUnusable(f"{section.certificate_file}: its key is not RSA; name the certificate of an RSA key")
    if section.private_key_uri:
        uri = Pkcs11Uri.parse(section.private_key_uri)
        return remote_key(pkcs11_device(section, expected=public, pin=pin), name=str(uri))
    if section.signer_command:
        if public is None:
            raise KeyUnusable("signer_command needs certificate_file: each signature is verified with it")
        seconds = section.timeout * _SHARE_OF_TIMEOUT
        device = CommandDevice(section.signer_command, public=public, seconds=seconds, clock=SystemClock())
        return remote_key(device, name=section.signer_command[0])
    raise KeyUnusable("it needs private_key_file, private_key_uri or signer_command")


def pkcs11_device(section: KeySettings, *, expected: RSAPublicKey | None, pin: Secret | None) -> Pkcs11Device:
    """Return the token's key that *section* names, not opened yet."""
    return Pkcs11Device(
        Pkcs11Uri.parse(section.private_key_uri),
        pin=pin,
        expected=expected,
        seconds=section.timeout * _SHARE_OF_TIMEOUT,
        clock=SystemClock(),  # the time of another process, which no other clock can tell
        pins=REFUSED_PINS,
    )


def remote_key(device: SigningDevice, *, name: str) -> RemoteKey:
    """Return the key in *device*, with one thread: a device that hangs keeps one thread, however many mints wait."""
    return RemoteKey(device, executor=ThreadPoolExecutor(1, thread_name_prefix="signer"), name=name)
