"""The URI of a key in a PKCS#11 token (RFC 7512): pkcs11:token=T;object=O?module-path=/usr/lib/M.so."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

SCHEME = "pkcs11:"
EXAMPLE = "pkcs11:token=payments;object=oauth?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pp/pin"

# RFC 7512 2.3: what names the token and the key, and what says how to reach it.
_TOKEN = (
    "token",
    "serial",
    "manufacturer",
    "model",
    "library-manufacturer",
    "library-description",
    "library-version",
    "slot-manufacturer",
    "slot-description",
    "slot-id",
)
_PATH = (*_TOKEN, "object", "id", "type")
_QUERY = ("module-path", "pin-source")

# Nothing else is quoted: it might be part of a PIN.
_PLAIN_NAME = re.compile("[a-z]+(-[a-z]+)*")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


class Pkcs11UriInvalid(ValueError):
    """A text is no usable PKCS#11 URI; *fix* is the remedy; neither text quotes the URI, which may hold a PIN."""

    def __init__(self, what: str, fix: str = f"write it like {EXAMPLE}") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Uri:
    """A key in a token: *label* and *key_id* (CKA_LABEL, CKA_ID) name it, *module* is the vendor's library.

    *token* and *serial* choose the token, "" if any; *more* are further attributes that it must have. *pin_file* is the
    file named by pin-source, "" without one.
    """

    module: str
    token: str = ""
    serial: str = ""
    label: str = ""
    key_id: bytes = b""
    pin_file: str = ""
    more: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse *text*; raise Pkcs11UriInvalid."""
        if not text.startswith(SCHEME):
            raise Pkcs11UriInvalid(f"does not begin with {SCHEME}")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        values = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
        if values.get("type", b"private") != b"private":
            raise Pkcs11UriInvalid("names another object than a private key", "write type=private, or leave type out")
        words = {name: _text(name, value) for name, value in values.items() if name != "id"}
        uri = cls(
            module=words.get("module-path", ""),
            token=words.get("token", ""),
            serial=words.get("serial", ""),
            label=words.get("object", ""),
            key_id=values.get("id", b""),
            pin_file=_pin_file(words.get("pin-source", "")),
            more=tuple((name, words[name]) for name in _TOKEN[2:] if name in words),
        )
        if not Path(uri.module).is_absolute():
            raise Pkcs11UriInvalid(
                "names no module",
                "add ?module-path=/..., the absolute path of the library that the token's vendor supplies",
            )
        if not (uri.token or uri.serial):
            raise Pkcs11UriInvalid("names no token", "add token=LABEL, as `pkcs11-tool --list-token-slots` shows it")
        if not (uri.label or uri.key_id):
            raise Pkcs11UriInvalid("names no key", "add object=LABEL or id=%01, as `pkcs11-tool --list-objects` shows")
        return uri

    @property
    def token_attributes(self) -> dict[str, str]:
        """Return what the token must have, by the names of RFC 7512 2.3."""
        named = {"token": self.token, "serial": self.serial}
        return {name: value for name, value in named.items() if value} | dict(self.more)

    @property
    def identity(self) -> str:
        """Return what names the key, without how it is reached: the same on all machines."""
        return f"{self.token!r} {self.serial!r} {self.label!r} {self.key_id.hex()}"

    def __str__(self) -> str:
        """Return the key in words, for messages."""
        parts = [f'token "{self.token}"' if self.token else f"token with serial {self.serial}"]
        parts += [f'key "{self.label}"'] if self.label else []
        parts += [f"key id {self.key_id.hex()}"] if self.key_id else []
        return ", ".join(parts)


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise Pkcs11UriInvalid(
                "holds a PIN (pin-value), and a secret must not be in the configuration",
                "write the PIN to a file (mode 0600), name it with pin-source=file:/PATH or private_key_pin_file, and "
                "change the PIN if others have seen it",
            )
        if name not in known:
            attributes = f"{', '.join(_PATH)}, and behind ? {' and '.join(_QUERY)}"
            named = f"the attribute {name}, which" if equals and _PLAIN_NAME.fullmatch(name) else "an attribute that"
            raise Pkcs11UriInvalid(f"has {named} is not known here", f"use only {attributes}")
        if not equals or not value or name in values or _STRAY_PERCENT.search(value):
            raise Pkcs11UriInvalid(f"has no value, two values or a stray % at {name}")
        values[name] = unquote_to_bytes(value)
    return values


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise Pkcs11UriInvalid(f"has other bytes than printable UTF-8 at {name}")
    return text


def _pin_file(source: str) -> str:
    """Return the path in a pin-source (RFC 7512 2.4): file:/PATH, file:///PATH or /PATH."""
    path = source.removeprefix("file:")
    path = path.removeprefix("//") if path.startswith("///") else path
    if source and not (Path(path).is_absolute() and not path.startswith("//")):
        raise Pkcs11UriInvalid(
            "has a pin-source that is no absolute path of a file", "write pin-source=file:/PATH (mode 0600)"
        )
    return path
