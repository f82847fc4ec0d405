"""What a configuration needs of the machine beyond the files that settings name: programs, libraries, PIN files."""

import os.path
from collections.abc import Iterator
from pathlib import Path

from proxy.settings.findings import Key
from proxy.settings.model import Settings
from proxy.settings.pkcs11_uri import Pkcs11Uri
from proxy.settings.signing_key import KeySettings

# What ProtectHome=yes hides (systemd.exec(5)).
_HOMES = ("/home", "/root", "/run/user")


def normal(path: Path) -> Path:
    """Return *path* without `..`, which neither units of systemd nor Secrets in a pod may have."""
    return Path(os.path.normpath(path))


def home_of(path: Path) -> str:
    """Return the directory of users' files that *path* is below, "" if it is below none."""
    return next((home for home in _HOMES if path.is_relative_to(home)), "")


def programs(settings: Settings) -> Iterator[tuple[Key, Path]]:
    """Yield each setting that names a program that signs or the library of a PKCS#11 token, with its path."""
    for key, section in _key_sections(settings):
        if section.signer_command:
            yield (*key, "signer_command"), Path(section.signer_command[0])
        if section.private_key_uri:
            yield (*key, "private_key_uri"), Path(Pkcs11Uri.parse(section.private_key_uri).module)


def pin_sources(settings: Settings) -> Iterator[tuple[Key, Path]]:
    """Yield each `private_key_uri` whose pin-source names a file (RFC 7512 section 2.4), with the file's path."""
    for key, section in _key_sections(settings):
        uri = Pkcs11Uri.parse(section.private_key_uri) if section.private_key_uri else None
        if uri is not None and uri.pin_file:
            yield (*key, "private_key_uri"), Path(uri.pin_file)


def unnamed_copies(settings: Settings, *, folder: Path) -> Iterator[tuple[Key, Path]]:
    """Yield each setting of a rule that names a private file outside of *folder*, and the name of its copy there."""
    for number, route in enumerate(settings.routes):
        for name in ("private_key_file", "private_key_passphrase_file", "private_key_pin_file"):
            file = Path(getattr(route.signature, name))
            if file.name and folder not in file.parents:
                yield ("routes", number, "signature", name), folder / file.name


def _key_sections(settings: Settings) -> Iterator[tuple[Key, KeySettings]]:
    for name, credential in settings.credentials.items():
        yield ("credentials", name), credential
    for number, route in enumerate(settings.routes):
        yield ("routes", number, "signature"), route.signature
