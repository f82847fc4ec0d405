"""Certificate subjects as canonical text (RFC 4514): subjects are equal if and only if their texts are equal."""

import re
from collections.abc import Iterable

# RFC 4514 3, and other spellings by OpenSSL and others; names are compared case-insensitively.
_SHORT = {
    "commonname": "CN",
    "organizationname": "O",
    "organizationalunitname": "OU",
    "localityname": "L",
    "stateorprovincename": "ST",
    "s": "ST",
    "countryname": "C",
    "streetaddress": "STREET",
    "domaincomponent": "DC",
    "userid": "UID",
    "1.2.840.113549.1.9.1": "emailAddress",
    "emailaddress": "emailAddress",
    "e": "emailAddress",
    "2.5.4.5": "serialNumber",
    "serialnumber": "serialNumber",
}
_TYPE = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+) *= *")
# A piece of a value: escaped pairs of hex digits, an escaped special character, or plain characters.
_PIECE = re.compile(r'(?P<hex>(?:\\[0-9A-Fa-f]{2})+)|\\(?P<special>[ "#+,;<=>\\])|(?P<plain>[^"+,;<>\\\x00]+)')
_SPECIAL = re.compile(r'["+,;<>\\]')

# A relative distinguished name: pairs of type and value, usually one.
Part = Iterable[tuple[str, str]]


def name_of(parts: Iterable[Part]) -> str:
    """Return the text of *parts*, given in text order: the most specific one first, CN=erp,O=Acme,C=US."""
    return ",".join("+".join(sorted(f"{_type(kind)}={_escaped(value)}" for kind, value in part)) for part in parts)


def canonical(text: str) -> str:
    """Return the canonical form of *text*, a subject in any accepted spelling.

    Raises ValueError with the reason if *text* is not a subject; special characters need a backslash.
    """
    parts: list[list[tuple[str, str]]] = [[]]
    at = 0
    while True:
        match = _TYPE.match(text, at)
        if match is None:
            raise ValueError("is not TYPE=VALUE,TYPE=VALUE")
        value, at = _value(text, match.end())
        parts[-1].append((match[1], value))
        if at == len(text):
            return name_of(parts)
        if text[at] == ",":
            parts.append([])
        elif text[at] != "+":
            raise ValueError(f"has a {text[at]} that belongs to no value")
        at += 1


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that starts at *at*, and its end; unescaped blanks around it are dropped."""
    if text.startswith("#", at):
        raise ValueError("has a value in hexadecimal form")
    pieces: list[str] = []
    while (match := _PIECE.match(text, at)) is not None:
        at = match.end()
        plain = match["plain"] or ""
        if match["hex"]:
            pieces.append(bytes.fromhex(match["hex"].replace("\\", "")).decode())
        else:
            pieces.append(match["special"] or (plain if text[at : at + 1] == "\\" else plain.rstrip(" ")))
    return "".join(pieces), at


def _type(kind: str) -> str:
    return _SHORT.get(kind.lower(), kind.upper() if len(kind) <= len("STREET") else kind.lower())


def _escaped(value: str) -> str:
    """Return *value* with a backslash before special characters (RFC 4514 2.4)."""
    text = _SPECIAL.sub(r"\\\g<0>", value).replace("\0", r"\00")
    if text.startswith((" ", "#")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else text
