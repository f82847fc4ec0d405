"""URLs that may hold a password: shown without it, and read from private files only."""

import re
from pathlib import Path
from typing import Any, ClassVar, Self

from proxy.private_file import FileUnusable, read_private_file
from proxy.settings.fields import unacceptable

MAX_URL_FILE_BYTES = 8192

_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):(.*)@", re.DOTALL)
_SECRET_PARAMETERS = re.compile(r"(?<=[?&])((?:ssl|sentinel_)?password)=[^&]*", re.IGNORECASE)


class UrlUnusable(ValueError):
    """A URL can't be used as configured; the message gives the reason and the fix, without the URL."""


class MaskedUrl(str):
    """A URL whose text has `***` for the password; only `reveal` returns the whole URL.

    Each subclass defines the expected form in *FIX*, and reports what is wrong with a text by `fault`.
    """

    __slots__ = ("_text",)
    FIX: ClassVar[str] = ""
    _text: str

    def __new__(cls, text: str) -> Self:
        """Keep the whole *text* beside the masked one."""
        url = super().__new__(cls, _SECRET_PARAMETERS.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text)))
        url._text = text
        return url

    @classmethod
    def of(cls, value: Any) -> Self:
        """Validate a setting's *value*; raise a validation error that shows no part of it."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise unacceptable("the value must be a string", cls.FIX)
        fault = cls.fault(value)
        if fault:
            raise unacceptable(fault, cls.FIX)
        return cls(value)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the URL in the file *path*; raise UrlUnusable, also if others than its owner may read it."""
        text = read_url_file(path)
        fault = cls.fault(text)
        if fault:
            raise UrlUnusable(f"{fault}; {cls.FIX}")
        return cls(text)

    @classmethod
    def fault(cls, text: str) -> str:  # noqa: ARG003 - for the subclasses
        """Return what is wrong with *text*, "" if nothing is."""
        return ""

    def reveal(self) -> str:
        """Return the whole URL; call it only in the line that connects."""
        return self._text

    @property
    def has_password(self) -> bool:
        """Return whether the URL contains a password."""
        return str(self) != self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskedUrl) and other._text == self._text

    def __ne__(self, other: object) -> bool:
        # str.__ne__ would compare the masked text.
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)


def read_url_file(path: Path) -> str:
    """Return the text in the file *path*; raise UrlUnusable, also if others than its owner may read it."""
    try:
        data = read_private_file(path, most=MAX_URL_FILE_BYTES)
    except FileUnusable as error:
        raise UrlUnusable(error.strerror) from None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise UrlUnusable("is not UTF-8; write the URL into it") from None
    if not text:
        raise UrlUnusable("is empty; write the URL into it")
    return text
