"""Where a key that signs is: in a file, in a PKCS#11 token or behind a program; of a credential or of a rule."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

from proxy.secret import Secret
from proxy.settings.findings import Complaint, Key
from proxy.settings.pkcs11_uri import Pkcs11Uri

_KEY_SETTINGS = ("private_key_file", "private_key_uri", "signer_command")


class KeySettings(Protocol):
    """The settings of a section that names such a key; *timeout* is in seconds, for one signature or one mint."""

    @property
    @abstractmethod
    def private_key_file(self) -> str:
        """Return the key's file, or ""."""

    @property
    @abstractmethod
    def private_key_uri(self) -> str:
        """Return the pkcs11: URI of the key, or ""."""

    @property
    @abstractmethod
    def private_key_pin(self) -> Secret | None:
        """Return the token's PIN, None if it is in a file."""

    @property
    @abstractmethod
    def private_key_pin_file(self) -> str:
        """Return the file with the token's PIN, or ""."""

    @property
    @abstractmethod
    def private_key_passphrase_file(self) -> str:
        """Return the file with the passphrase of the key's file, or ""."""

    @property
    @abstractmethod
    def signer_command(self) -> tuple[str, ...]:
        """Return the program and its arguments, or ()."""

    @property
    @abstractmethod
    def certificate_file(self) -> str:
        """Return the file of the key's certificate, or ""."""

    @property
    @abstractmethod
    def timeout(self) -> float:
        """Return the seconds after which the key's owner gives up."""


def key_settings(section: KeySettings) -> tuple[str, ...]:
    """Return which settings name the key of *section*: one, or the configuration is wrong."""
    return tuple(name for name in _KEY_SETTINGS if getattr(section, name))


def pin_file(section: KeySettings) -> str:
    """Return the file with the token's PIN, "" if none is named."""
    named = Pkcs11Uri.parse(section.private_key_uri).pin_file if section.private_key_uri else ""
    return named or section.private_key_pin_file


def contradictions(key: Key, section: KeySettings) -> Iterator[Complaint]:
    """Report what the table *key* says twice, and a program without the certificate that its signatures need."""
    named = key_settings(section)
    for other in named[1:]:
        yield Complaint(key=(*key, other), what=f"there is {named[0]} too", fix="name the key in one of the two")
    if section.signer_command and not section.certificate_file:
        fix = "name the certificate of the key: each signature of the program is verified with it"
        yield Complaint(key=(*key, "certificate_file"), what="signer_command needs a certificate", fix=fix)
    pins = [name for name in ("private_key_pin", "private_key_pin_file") if getattr(section, name)]
    if pin_file(section) != section.private_key_pin_file:
        pins.insert(0, "pin-source in private_key_uri")
    for other in pins[1:]:
        yield Complaint(key=(*key, other), what=f"there is {pins[0]} too", fix="give the PIN in one place")
