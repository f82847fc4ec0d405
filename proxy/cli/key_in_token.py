"""Opens or makes a key in a PKCS#11 token, for `payproxy keys`."""

from pathlib import Path

from proxy.cli.output import Failure
from proxy.clock import SystemClock
from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.credentials.keys import KeyUnusable
from proxy.credentials.pkcs11_device import Pkcs11Device
from proxy.credentials.remote_key import RemoteKey
from proxy.credentials.signing_key import remote_key
from proxy.settings.pkcs11_uri import Pkcs11Uri, Pkcs11UriInvalid

# Making an RSA key in hardware may take a minute.
_SECONDS = 120.0


def key_in_token(text: str, pin_file: Path | None, *, make: bool) -> RemoteKey:
    """Return the key of the URI *text*, made now if *make*; raise Failure. Close it after use."""
    try:
        uri = Pkcs11Uri.parse(text)
    except Pkcs11UriInvalid as error:
        raise Failure(f"the URI {error}; {error.fix}") from None
    file = pin_file or (Path(uri.pin_file) if uri.pin_file else None)
    try:
        pin = read_secret_file(file) if file else None
    except CredentialUnusable as error:
        raise Failure(str(error)) from None
    device = Pkcs11Device(uri, pin=pin, expected=None, seconds=_SECONDS, clock=SystemClock())
    try:
        if make:
            device.generate()
        else:
            device.public_key()
    except KeyUnusable as error:
        device.close()
        raise Failure(str(error)) from None
    return remote_key(device, name=str(uri))
