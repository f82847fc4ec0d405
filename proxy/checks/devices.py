"""Checks a signing key that is in a token, by opening it, or behind a program, without running it."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.credentials.command_device import check_program
from proxy.credentials.keys import KeyUnusable, rsa_key_of
from proxy.credentials.remote_key import KeyUnavailable
from proxy.credentials.signing_key import pkcs11_device
from proxy.secret import Secret
from proxy.settings.findings import Complaint, Key, Severity
from proxy.settings.signing_key import KeySettings


@dataclass(slots=True, kw_only=True)
class CheckedDevice:
    """What was found, and the public half of the key by the configuration key that names it."""

    complaints: list[Complaint] = field(default_factory=list)
    keys: dict[Key, RSAPublicKey] = field(default_factory=dict)


def check_device(
    section: KeySettings, key: Key, *, certificate: x509.Certificate | None, pin: Secret | None
) -> CheckedDevice:
    """Check the token or the program of *section*, the table *key*; nothing if it names none.

    A token that does not answer is a warning: `serve` starts, and asks again. The PIN is tried once.
    """
    found = CheckedDevice()
    if section.private_key_uri:
        _token((*key, "private_key_uri"), section, certificate, pin, found)
    if section.signer_command:
        try:
            check_program(Path(section.signer_command[0]))
        except KeyUnusable as error:
            found.complaints.append(_complaint((*key, "signer_command"), error))
    return found


def _token(
    key: Key, section: KeySettings, certificate: x509.Certificate | None, pin: Secret | None, found: CheckedDevice
) -> None:
    public = rsa_key_of(certificate) if certificate is not None else None
    if certificate is not None and public is None:
        what, fix = "the certificate is not one of an RSA key", "name the certificate of the key"
        found.complaints.append(Complaint(key=key, what=what, fix=fix))
        return
    device = pkcs11_device(section, expected=public, pin=pin)
    try:
        found.keys[key] = device.public_key()
    except KeyUnusable as error:
        found.complaints.append(_complaint(key, error))
        return
    finally:
        device.close()
    if device.extractable:
        what = "the key can be taken out of the token (CKA_EXTRACTABLE is true), so it is no safer than a file"
        fix = "make one that can't, with `payproxy keys new --pkcs11`, and give its certificate to the bank"
        found.complaints.append(Complaint(key=key, what=what, fix=fix, severity=Severity.WARNING))


def _complaint(key: Key, error: KeyUnusable) -> Complaint:
    what, _, fix = str(error).rpartition("; ")
    severity = Severity.WARNING if isinstance(error, KeyUnavailable) else Severity.ERROR
    if severity is Severity.WARNING:
        meanwhile = "mints of this credential fail and are tried again"
        if key[0] == "routes":
            meanwhile = "no body that this key signs is sent"
        fix = f"{fix}; until then {meanwhile}"
    return Complaint(key=key, what=what, fix=fix, severity=severity)
