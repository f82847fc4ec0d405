"""Keys that are not in a file, for `payproxy keys`: in a PKCS#11 token, or behind a program."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.cli.output import Failure, note
from proxy.clock import SystemClock
from proxy.credentials.command_device import CommandDevice, check_program
from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.credentials.keys import KeyUnusable
from proxy.credentials.pkcs11_device import MAKE_SECONDS, Pkcs11Device
from proxy.credentials.refused_pins import REFUSED_PINS
from proxy.credentials.remote_key import RemoteKey
from proxy.credentials.signing_key import remote_key
from proxy.private_file import FileUnusable, read_file
from proxy.settings.pkcs11_uri import Pkcs11Uri, Pkcs11UriInvalid

# As in a mint with the default time-out.
_SECONDS = 8.0


def key_behind_program(program: str, public_key: Path) -> RemoteKey:
    """Return the key that only *program* can use; *public_key* is its public half as PEM. Raise Failure."""
    try:
        check_program(Path(program))
        public = load_pem_public_key(read_file(public_key).data)
    except (KeyUnusable, FileUnusable) as error:
        raise Failure(str(error)) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(f"{public_key} is no public key; write it as PEM (BEGIN PUBLIC KEY)") from None
    if not isinstance(public, RSAPublicKey):
        raise Failure(f"{public_key} is not RSA, and the bank's assertions are RS256 only; make an RSA key")
    device = CommandDevice([program], public=public, seconds=_SECONDS, clock=SystemClock())
    return remote_key(device, name=program)


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
    device = Pkcs11Device(uri, pin=pin, expected=None, seconds=_SECONDS, clock=SystemClock(), pins=REFUSED_PINS)
    try:
        if make:
            note(f"The key is being made in the token, which may take up to {MAKE_SECONDS:g} s.")
            device.generate()
        else:
            device.public_key()
    except KeyUnusable as error:
        raise Failure(str(error)) from None
    except BaseException:  # Ctrl-C
        device.close()
        raise
    return remote_key(device, name=str(uri))
